"""LF and HF scans of different subjects -> one single-channel dataset with the domain of each case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError, already_told
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.nifti import require_same_grid, write_labels
from nnunet_uhf.imageio.output import working_folder
from nnunet_uhf.preprocessing.datasets.checks import check_case_names, check_dataset_folder
from nnunet_uhf.preprocessing.datasets.write import paired_block, write_segmentation_dataset
from nnunet_uhf.preprocessing.pairing.geometry import read_scan
from nnunet_uhf.preprocessing.pairing.masks import MaskSource, mask_labels, mask_of_scan, read_mask


def convert_unpaired(
    output: Path,
    *,
    lf: Path,
    hf: Path,
    source_field_T: float,
    target_field_T: float,
    channel: str = "MR",
    source_domain: str = "LF",
    target_domain: str = "HF",
    masks_lf: Path | None = None,
    masks_hf: Path | None = None,
    mask: MaskSource = "nonzero",
    console: Console | None = None,
) -> Path:
    """Write a dataset of both domains; a case is named DOMAIN_NAME, and dataset.json says which domain it is of.

    The `uhf` object is ``{"unpaired": {"source": "LF", "target": "HF", "source_field_T": .., "target_field_T": ..,
    "domains": {"LF_anna": "LF", "HF_bob": "HF", ...}}}``. Every scan stays on its own grid. Sources are read, never
    changed; the dataset appears complete or not at all.

    Args:
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        lf: folder of the low-field scans.
        hf: folder of the high-field scans; the same name in both folders means nothing.
        source_field_T: field strength of the LF scans in tesla.
        target_field_T: field strength of the HF scans in tesla.
        channel: name of the one channel, the contrast both domains show.
        source_domain: name of the LF domain.
        target_domain: name of the HF domain.
        masks_lf: folder of brain masks with the names of the LF scans, on their grids.
        masks_hf: likewise; both or neither.
        mask: where masks come from when none are given.
        console: shows a progress bar when given.

    Returns:
        `output`.

    Raises:
        UHFError: one line on the file and what to do.
    """
    if (masks_lf is None) != (masks_hf is None):
        raise UHFError("masks are given for one of the two folders: give --masks-lf and --masks-hf, or neither")
    names = mask_labels(mask, given=masks_lf is not None)
    check_dataset_folder(output, names)
    fields = paired_block(
        output,
        source_channel=source_domain,
        target_channel=target_domain,
        source_field_T=source_field_T,
        target_field_T=target_field_T,
        route="paired",
    )
    del fields["route"]
    scans, masks, domains = {}, {}, {}
    for domain, folder, mask_folder in ((source_domain, lf, masks_lf), (target_domain, hf, masks_hf)):
        files = case_files(folder)
        scans.update({f"{domain}_{name}": path for name, path in files.items()})
        domains.update({f"{domain}_{name}": domain for name in files})
        if mask_folder is not None:
            found = case_files(mask_folder)
            _require_masks(files, found, mask_folder)
            masks.update({f"{domain}_{name}": found[name] for name in files})
    check_case_names(list(scans))
    with working_folder(output) as temporary:
        images, labels = {}, {}
        cases = sorted(scans)
        for number, case in enumerate(cases if console is None else track(cases, "reading", console=console)):
            folder = temporary / f"{number:05d}"
            folder.mkdir()
            images[case], labels[case] = _stage(folder, scans[case], masks.get(case), mask)
        with already_told():
            write_segmentation_dataset(
                output,
                channels={channel: images},
                labels=labels,
                label_names=names,
                uhf={"unpaired": {**fields, "domains": domains}},
                record={
                    "format": 1,
                    "package_version": nnunet_uhf.__version__,
                    "converter": "unpaired",
                    "cases": {case: str(path) for case, path in scans.items()},
                },
            )
    return output


def _require_masks(files: Mapping[str, Path], masks: Mapping[str, Path], folder: Path) -> None:
    """A mask of each scan."""
    for name, path in files.items():
        if name not in masks:
            raise UHFError(f"{folder} holds no mask {name}.nii.gz for {path}: add it")


def _stage(folder: Path, scan_file: Path, mask_file: Path | None, source: MaskSource) -> tuple[Path, Path]:
    """The scan, which is the source itself, and its mask as uint8."""
    scan = read_scan(scan_file)
    if mask_file is None:
        inside = mask_of_scan(scan, source)
    else:
        require_same_grid(scan_file, mask_file)
        inside = read_mask(mask_file).data > 0
    labels = folder / "labels.nii.gz"
    write_labels(labels, inside, header=scan.header)
    return scan_file, labels
