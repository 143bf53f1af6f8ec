"""Scans of several modalities of the same subjects -> raw dataset for Uni-COAL (`nnunet-uhf convert modalities`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError, already_told
from nnunet_uhf.imageio.label_maps import label_volume
from nnunet_uhf.imageio.nifti import Volume, require_equal_grids, write_labels, write_volume
from nnunet_uhf.imageio.output import working_folder
from nnunet_uhf.imageio.tables import read_table
from nnunet_uhf.preprocessing.datasets.checks import check_case_names, check_dataset_folder
from nnunet_uhf.preprocessing.datasets.write import write_segmentation_dataset
from nnunet_uhf.preprocessing.low_field.slice_profile import slice_affine
from nnunet_uhf.preprocessing.pairing.geometry import read_scan
from nnunet_uhf.preprocessing.pairing.link import connect
from nnunet_uhf.preprocessing.pairing.masks import MaskSource, mask_labels, mask_of_scan, read_mask
from nnunet_uhf.preprocessing.pairing.registration import MotionKind
from nnunet_uhf.routes.modalities import ModalityTask
from nnunet_uhf.routes.table import read_task_of
from nnunet_uhf.types import FloatArray

LABELS = ("mask", "labels")
SAME_PLACE = 1e-3  # mm


@dataclass(frozen=True, kw_only=True)
class ModalityOptions:
    """How scans of one subject are brought together.

    Attributes:
        grid: the modality whose grid all get; a case without it is put on the grid of its first modality.
        registration: `rigid`, `affine`, or `none` for scans that share a grid.
        thick: voxels along the slice axis that one slice of a modality fills, for scans that stay thick.
        mask: where a mask comes from when none is given.
        seed: of the voxels that registration looks at.
    """

    grid: str
    registration: MotionKind = "rigid"
    thick: Mapping[str, int] = field(default_factory=dict)
    mask: MaskSource = "nonzero"
    seed: int = 0


@dataclass(frozen=True)
class ModalityFiles:
    """The files of one case by modality, as many as there are, and at most one of brain mask and label map."""

    scans: Mapping[str, Path]
    mask: Path | None = None
    labels: Path | None = None


def modality_table(table: Path, modalities: Sequence[str]) -> dict[str, ModalityFiles]:
    """Cases of a CSV file with the columns `case`, one for each modality, and optional `mask` or `labels`.

    Paths are relative to the table; an empty field is a modality that the case lacks.

    Raises:
        UHFError: an unreadable table, a column that is missing or unknown, a case twice or without any scan, a file
            that is not there.
    """
    columns, rows = read_table(table)
    for column in ("case", *modalities):
        if columns.count(column) != 1:
            raise UHFError(f"{table} has no column {column!r}: its first line must be case,{','.join(modalities)}")
    unknown = [column for column in columns if column not in ("case", *modalities, *LABELS)]
    if unknown:
        raise UHFError(f"{table} has the column {unknown[0]!r}, which --field does not name: give its field strength")
    if all(column in columns for column in LABELS):
        raise UHFError(f"{table} has the columns mask and labels: keep one of them")
    cases: dict[str, ModalityFiles] = {}
    for line, row in rows:
        case = row["case"]
        if not case or case in cases:
            raise UHFError(f"line {line} of {table} names no case or {case!r} again: give every case one line")
        files = {name: _named(table, line, row[name]) for name in (*modalities, *LABELS) if row.get(name)}
        scans = {name: path for name, path in files.items() if name not in LABELS}
        if not scans:
            raise UHFError(f"line {line} of {table}: case {case} has no scan: fill in one modality at least")
        cases[case] = ModalityFiles(scans, mask=files.get("mask"), labels=files.get("labels"))
    if not cases:
        raise UHFError(f"{table} holds no case: add a line for each subject")
    return cases


def _named(table: Path, line: int, name: str) -> Path:
    path = table.parent / name
    if not path.is_file():
        raise UHFError(f"{path} does not exist, named in line {line} of {table}: correct the path")
    return path


def convert_modalities(
    output: Path,
    cases: Mapping[str, ModalityFiles],
    *,
    uhf: Mapping[str, Any],
    options: ModalityOptions,
    label_names: Mapping[str, int] | None = None,
    console: Console | None = None,
) -> Path:
    """Register the scans of each case to one of them, bring all on its grid, and write the dataset.

    A modality that a case lacks is a channel of zeros, which is never drawn in training. Scans that stay thick must lie
    on the grid with their slices, one every so many voxels from the first; their voxels are repeated.

    Args:
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        cases: the files of each case.
        uhf: the `uhf` object of dataset.json; its `modalities` name the channels in their order.
        options: how scans are brought together.
        label_names: name to value, needed for label maps.
        console: shows a progress bar when given.

    Raises:
        UHFError: one line on the file and what to do.
    """
    names = list(uhf["modalities"])
    labelled = any(files.labels is not None for files in cases.values())
    if labelled and label_names is None:
        raise UHFError(f"{output.name}: the table names label maps: give their names and values (--label-names)")
    known = (
        dict(label_names)
        if label_names and labelled
        else mask_labels(options.mask, given=any(files.mask is not None for files in cases.values()))
    )
    # all that can be wrong before hours of registration
    check_dataset_folder(output, known)
    check_case_names(list(cases))
    described = {"channel_names": {str(index): name for index, name in enumerate(names)}, "uhf": dict(uhf)}
    read_task_of(ModalityTask, described, dataset=output.name)
    if options.grid not in names:
        raise UHFError(f"--grid {options.grid} is no modality of {output.name}: choose one of {', '.join(names)}")
    channels: dict[str, dict[str, Path]] = {name: {} for name in names}
    labels: dict[str, Path] = {}
    record = {}
    with working_folder(output) as folder:
        for number, case in enumerate(track(sorted(cases), "modalities", console=console, disable=console is None)):
            staged = folder / f"{number:04d}"
            staged.mkdir()
            written, labels[case] = _write_case(staged, cases[case], names, options)
            for name, path in written.items():
                channels[name][case] = path
            record[case] = {name: str(path) for name, path in cases[case].scans.items()}
        with already_told():
            return write_segmentation_dataset(
                output,
                channels=channels,
                labels=labels,
                label_names=known,
                uhf=uhf,
                record={
                    "format": 1,
                    "package_version": nnunet_uhf.__version__,
                    "converter": "modalities",
                    "parameters": {"grid": options.grid, "registration": options.registration, "seed": options.seed},
                    "cases": record,
                },
            )


def _write_case(
    folder: Path, files: ModalityFiles, names: Sequence[str], options: ModalityOptions
) -> tuple[dict[str, Path], Path]:
    """Every modality on the grid of the reference, and its label map."""
    thin = [name for name in files.scans if name not in options.thick]
    if not thin:
        raise UHFError(f"{next(iter(files.scans.values()))}: all scans of its case are thick: add one that is not")
    chosen = options.grid if options.grid in thin else thin[0]
    reference = read_scan(files.scans[chosen])
    paths: dict[str, Path] = {}
    for name in names:
        path = paths[name] = folder / f"{len(paths)}.nii.gz"
        if name not in files.scans:
            data: FloatArray = np.zeros(reference.data.shape, dtype=np.float32)
        elif name == chosen:
            data = reference.data
        elif name in options.thick:
            data = _repeated(read_scan(files.scans[name]), reference, options.thick[name])
        else:
            scan = read_scan(files.scans[name])
            link = connect(reference, scan, kind=options.registration, slicewise=False, seed=options.seed)
            data = link.bring(scan.data)
        write_volume(path, data, header=reference.header)
    if files.mask is None and files.labels is None:
        marked: FloatArray = mask_of_scan(reference, options.mask).astype(np.float32)
    else:
        given = read_mask(files.mask) if files.mask is not None else label_volume(files.labels or files.scans[chosen])
        require_equal_grids(reference.path, reference.grid, given.path, given.grid)
        marked = given.data
    labels = folder / "labels.nii.gz"
    write_labels(labels, marked, header=reference.header)
    return paths, labels


def _repeated(thick: Volume, reference: Volume, ratio: int) -> FloatArray:
    """Thick slices on the thin grid, each as often as it has voxels there; UHFError of another grid."""
    for axis in range(3):
        wanted = slice_affine(reference.affine, ratio=ratio, axis=axis)
        count = -(-reference.data.shape[axis] // ratio)
        shape = [count if n == axis else size for n, size in enumerate(reference.data.shape)]
        if list(thick.data.shape) == shape and np.allclose(thick.affine, wanted, atol=SAME_PLACE):
            size = reference.data.shape[axis]
            return np.repeat(thick.data, ratio, axis=axis).take(range(size), axis=axis)
    raise UHFError(
        f"{thick.path}: its slices do not lie on every {ratio}th slice of {reference.path} from the first; resample it "
        "there, or leave --thick away to have it interpolated"
    )
