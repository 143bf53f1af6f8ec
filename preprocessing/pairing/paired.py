"""LF and HF scans of the same subjects -> raw enhancement dataset (`nnunet-uhf convert paired`)."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nibabel.affines import voxel_sizes
from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import (
    read_volume,
    require_distinct,
    require_same_grid,
    require_whole_numbers,
    says_one_geometry,
    write_volume,
)
from nnunet_uhf.preprocessing.datasets.checks import check_case_names, check_dataset_folder
from nnunet_uhf.preprocessing.datasets.write import (
    paired_block,
    write_paired_dataset,
)
from nnunet_uhf.preprocessing.pairing.alignment import Alignment, flag_outliers, measure_alignment
from nnunet_uhf.preprocessing.pairing.bias_field import without_bias_field
from nnunet_uhf.preprocessing.pairing.case_table import LABELS, PairFiles
from nnunet_uhf.preprocessing.pairing.geometry import (
    Spacing,
    read_scan,
    with_spacing,
    write_labels,
)
from nnunet_uhf.preprocessing.pairing.link import Link, connect
from nnunet_uhf.preprocessing.pairing.masks import MaskSource, mask_labels, mask_of_scan, read_mask
from nnunet_uhf.preprocessing.pairing.registration import Kind
from nnunet_uhf.preprocessing.pairing.slicewise import aligned_stacks

TABLE_NAME = "alignment.csv"
Side = Literal["lf", "hf"]


@dataclass(frozen=True)
class PairingOptions:
    """How pairs are made.

    Attributes:
        registration: `rigid`, `affine`, or `none` for scans that share a grid.
        grid: the scan that keeps its grid and its voxels; the other is interpolated onto it, once.
        slicewise: register slice k with slice k in its plane, for stacks of a few matching slices.
        n4: scans whose bias field is removed.
        mask: where a mask comes from when none is given.
        spacing_lf: voxel size in mm in place of the stored one, for cases that name none of their own.
        spacing_hf: likewise.
        seed: >= 0, of the voxels that registration looks at.
        labels_on: the scan that given masks and label maps were drawn on; needed where both scans have one stored grid
            and are registered, since the grid does not tell then.
    """

    registration: Kind = "rigid"
    grid: Side = "hf"
    slicewise: bool = False
    n4: tuple[Side, ...] = ()
    mask: MaskSource = "nonzero"
    spacing_lf: Spacing | None = None
    spacing_hf: Spacing | None = None
    seed: int = 0
    labels_on: Side | None = None


def convert_paired(
    output: Path,
    cases: Mapping[str, PairFiles],
    *,
    source_field_T: float,
    target_field_T: float,
    source_channel: str = "LF",
    target_channel: str = "HF",
    label_names: Mapping[str, int] | None = None,
    options: PairingOptions | None = None,
    console: Console | None = None,
) -> dict[str, Alignment]:
    """Register each pair, bring it on one grid, and write the dataset with a report on the alignment.

    The dataset holds `conversion.json` and `alignment.csv` with what registration found for every case. Sources are
    read, never changed; the dataset appears complete or not at all.

    Args:
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        cases: the files of each case; all have a mask, or all a label map, or none has either.
        source_field_T: field strength of the LF scans in tesla.
        target_field_T: field strength of the HF scans in tesla.
        source_channel: name of the LF channel; guided datasets are matched to it.
        target_channel: name of the HF channel.
        label_names: name to value, needed for label maps.
        options: how pairs are made.
        console: shows a progress bar when given.

    Returns:
        The alignment of each case; those with reasons want a look.

    Raises:
        UHFError: one line on the file and what to do.
    """
    options = options or PairingOptions()
    names = _check(output, cases, label_names, options)
    block = paired_block(  # fails here, not after hours of registration
        output,
        source_channel=source_channel,
        target_channel=target_channel,
        source_field_T=source_field_T,
        target_field_T=target_field_T,
        route="paired",
    )
    report: dict[str, Alignment] = {}
    record: dict[str, Any] = {}
    staged: dict[str, dict[str, Path]] = {"lf": {}, "hf": {}, "labels": {}}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise UHFError(f"{output} cannot be created: {error.strerror}") from error
    with work as folder:
        for case in sorted(cases) if console is None else track(sorted(cases), "pairing", console=console):
            link, report[case] = _pair(cases[case], options)
            for part, path in _stage(Path(folder) / f"{len(report):04d}", cases[case], link, options).items():
                staged[part][case] = path
            record[case] = {
                **{part: str(path) for part, path in cases[case].files.items()},
                "reference_to_moving_lps_mm": link.matrices(),
                "motions": [asdict(found) for found in link.motions()],
            }
        flag_outliers(report)
        write_paired_dataset(
            output,
            sources=staged["lf"],
            targets=staged["hf"],
            labels=staged["labels"],
            label_names=names,
            source_channel=source_channel,
            target_channel=target_channel,
            source_field_T=source_field_T,
            target_field_T=target_field_T,
            route=block["route"],
            record={
                "format": 1,
                "package_version": nnunet_uhf.__version__,
                "converter": "paired",
                "parameters": asdict(options),
                "cases": {case: {**record[case], "alignment": asdict(report[case])} for case in report},
            },
            notes={TABLE_NAME: _table(report)},
        )
    return report


def _check(
    output: Path, cases: Mapping[str, PairFiles], label_names: Mapping[str, int] | None, options: PairingOptions
) -> dict[str, int]:
    """Everything that is wrong before any scan is read; returns the label names."""
    if not cases:
        raise UHFError(f"no pairs are given for {output.name}: name at least one")
    if options.seed < 0:
        raise UHFError(f"seed is {options.seed}: use a whole number >= 0")
    if options.slicewise and options.registration == "none":
        raise UHFError("--slicewise is a way to register: leave it out or choose --registration rigid or affine")
    given = {part for pair in cases.values() for part in pair.files if part in LABELS}
    if len(given) > 1 or any(not given <= set(pair.files) for pair in cases.values()):
        raise UHFError("some cases have a mask or a label map and others do not: give all the same")
    if ("labels" in given) != (label_names is not None):
        raise UHFError("label maps and label names belong together: give both (--label-names) or none")
    names = dict(label_names) if label_names is not None else mask_labels(options.mask, given="mask" in given)
    check_dataset_folder(output, names)
    check_case_names(list(cases))
    files = {f"{case} ({part})": path for case, pair in cases.items() for part, path in pair.files.items()}
    for path in files.values():
        if not path.is_file():
            raise UHFError(f"{path} does not exist: check the name and the folder")
    require_distinct(files)
    return names


def _spacing(side: Side, files: PairFiles, options: PairingOptions) -> Spacing | None:
    """The voxel size that replaces the stored one: the case's own, or the options'."""
    if side == "lf":
        return files.spacing_lf or options.spacing_lf
    return files.spacing_hf or options.spacing_hf


def _pair(files: PairFiles, options: PairingOptions) -> tuple[Link, Alignment]:
    """Read, correct and register one pair, and measure how it fits."""
    scans = {
        "lf": read_scan(files.lf, spacing=_spacing("lf", files, options)),
        "hf": read_scan(files.hf, spacing=_spacing("hf", files, options)),
    }
    for side in options.n4:
        scans[side] = without_bias_field(scans[side])
    reference, moving = scans[options.grid], scans["lf" if options.grid == "hf" else "hf"]
    link = connect(reference, moving, kind=options.registration, slicewise=options.slicewise, seed=options.seed)
    alignment = measure_alignment(
        reference.data,
        link.bring(link.moving.data),
        link.before(),
        reach=link.reach(),
        spacing=voxel_sizes(reference.affine),
        motions=link.motions(),
    )
    return link, alignment


def _stage(folder: Path, files: PairFiles, link: Link, options: PairingOptions) -> dict[str, Path]:
    """Files on the grid of the reference; where nothing was changed, the source itself."""
    folder.mkdir()
    sides: tuple[Side, Side] = ("hf", "lf") if options.grid == "hf" else ("lf", "hf")
    paths: dict[str, Path] = {}
    for side, scan in zip(sides, (link.reference, link.moving), strict=True):
        moved = scan is link.moving and bool(link.transforms)
        source = files.files[side]
        replaced = side in options.n4 or _spacing(side, files, options) is not None
        if moved or replaced or not says_one_geometry(source, link.reference.affine):
            data = link.bring(scan.data) if moved else scan.data
            paths[side] = folder / f"{side}.nii.gz"
            write_volume(paths[side], data, link.reference.affine, header=link.reference.header)
        else:
            paths[side] = source
    labels = _labels(files, link, options)
    paths["labels"] = folder / "labels.nii.gz"
    write_labels(paths["labels"], labels, link.reference.affine, header=link.reference.header)
    return paths


def _labels(files: PairFiles, link: Link, options: PairingOptions) -> np.ndarray[Any, np.dtype[Any]]:
    """Mask or label map on the reference's grid; given ones may lie on the grid of either scan."""
    path = files.mask or files.labels
    if path is None:
        return mask_of_scan(link.reference, options.mask)
    given = read_mask(path) if files.mask is not None else read_volume(path)
    require_whole_numbers(given)
    if _drawn_on(path, files, link, options) == options.grid:
        return given.data
    if link.axis is not None:
        side: Side = "lf" if options.grid == "hf" else "hf"
        given, _ = aligned_stacks(link.reference, with_spacing(given, _spacing(side, files, options)))
    return link.bring(given.data, nearest=True)


def _drawn_on(path: Path, files: PairFiles, link: Link, options: PairingOptions) -> Side:
    """The scan that a mask or label map was drawn on: the one with its grid, or the one that the user names."""
    sides: tuple[Side, Side] = ("hf", "lf")
    fits = [side for side in sides if _on_grid_of(path, files.files[side])]
    if not fits:
        raise UHFError(f"{path} lies on the grid of neither {files.lf.name} nor {files.hf.name}: resample it to one")
    if options.labels_on is not None:
        if options.labels_on not in fits:
            scan = files.files[options.labels_on]
            raise UHFError(f"{path} does not lie on the grid of {scan}, where --labels-on has it: name the other scan")
        return options.labels_on
    if len(fits) > 1 and link.transforms:
        raise UHFError(f"{path} has the grid of both scans, which are registered: name its own (--labels-on lf or hf)")
    return options.grid if options.grid in fits else fits[0]


def _on_grid_of(labels: Path, scan: Path) -> bool:
    """Whether two files have one grid as they are stored."""
    try:
        require_same_grid(scan, labels)
    except UHFError:
        return False
    return True


def _table(report: Mapping[str, Alignment]) -> str:
    """The report as CSV, one line a case, the worst outline first."""
    text = io.StringIO()
    columns = [name for name in Alignment.__dataclass_fields__ if name != "reasons"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *columns, "flagged", "reasons"])
    for case, found in sorted(report.items(), key=lambda item: -item[1].outline_mm):
        numbers = [f"{getattr(found, name):.4g}" for name in columns]
        writer.writerow([case, *numbers, "yes" if found.reasons else "no", "; ".join(found.reasons)])
    return text.getvalue()
