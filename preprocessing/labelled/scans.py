"""Scans with label maps of any source -> a raw nnU-Net segmentation dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError, already_told
from nnunet_uhf.imageio.nifti import require_distinct, require_equal_grids
from nnunet_uhf.imageio.output import working_folder
from nnunet_uhf.nnunet.labels import tells_sides_apart
from nnunet_uhf.preprocessing.datasets.checks import check_dataset_folder
from nnunet_uhf.preprocessing.datasets.write import write_segmentation_dataset
from nnunet_uhf.preprocessing.labelled.clahe import RECORD, equalised
from nnunet_uhf.preprocessing.labelled.label_table import LabelTable
from nnunet_uhf.preprocessing.labelled.source_image import SourceImage, read_source, write_plain

MIRRORING = (
    "the labels tell left from right, and nnU-Net mirrors images in training: train with -tr UHFTrainerNoMirroring "
    "(plain nnU-Net: nnUNetTrainerNoMirroring), or convert with --merge-sides where the verb has it"
)


@dataclass(frozen=True)
class LabelledScan:
    """One case of a source: an image file per channel, its label map (test cases may have none), facts to record."""

    images: Mapping[str, Path]
    labels: Path | None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """What a user may ask of every layout.

    Attributes:
        test: names of the cases that go to imagesTs and labelsTs.
        mapping: JSON file that adds or overrules what label numbers stand for.
        same_voxels: label maps of an image's shape lie voxel for voxel on it, whatever their own affine says.
        skip_incomplete: leave out cases without image or labels in place of stopping.
        clahe: equalise the histogram of every image locally, as the paper does with IBSR.
    """

    test: Collection[str] = ()
    mapping: Path | None = None
    same_voxels: bool = False
    skip_incomplete: bool = False
    clahe: bool = False


DEFAULTS = ConversionOptions()


@dataclass(frozen=True)
class Conversion:
    """What a converter wrote, and what the user should know about it."""

    dataset: Path
    warnings: tuple[str, ...]


def write_labelled_scans(
    output: Path,
    *,
    layout: str,
    scans: Mapping[str, LabelledScan],
    table: LabelTable,
    options: ConversionOptions = DEFAULTS,
    warnings: Iterable[str] = (),
    console: Console | None = None,
) -> Conversion:
    """Write the dataset; images keep grid and values, labels get the table's values on their image's grid.

    Args:
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        layout: name of the source's layout, for the record.
        scans: by case name; all have the same channels in the same order.
        table: what the numbers of the label maps stand for, the user's mapping included.
        options: which cases are for testing, and whether label maps lie voxel for voxel on their images.
        warnings: what is to be told beside what is found here.
        console: shows a progress bar when given.

    Raises:
        UHFError: one line on the file and what to do; nothing is left of the dataset.
    """
    label_names = table.label_names
    check_dataset_folder(output, label_names)
    tests = _test_cases(scans, options.test)
    _require_own_files(scans)
    told = list(warnings)
    present: set[int] = set()
    unoriented: list[Path] = []
    moved: list[Path] = []
    channels = list(next(iter(scans.values())).images)
    images: dict[str, dict[str, Path]] = {channel: {} for channel in channels}
    labels: dict[str, Path] = {}
    with working_folder(output) as temporary:
        for index, (case, scan) in enumerate(_progress(scans, f"reading {layout}", console)):
            first = None
            for number, channel in enumerate(channels):
                image = read_source(scan.images[channel])
                first = first or image
                _check_image(image, first)
                images[channel][case] = temporary / f"{index}_{number}.nii.gz"
                data = equalised(image.data) if options.clahe else image.data
                write_plain(images[channel][case], data, first.geometry)
                unoriented += [] if image.oriented else [image.path]
            if scan.labels is not None and first is not None:
                source = read_source(scan.labels)
                placed = _on_grid(source, first, same_voxels=options.same_voxels)
                moved += [] if np.allclose(source.affine, placed.affine, atol=1e-3) else [source.path]
                values = table.apply(placed)
                present.update(np.unique(values).tolist())
                labels[case] = temporary / f"{index}_labels.nii.gz"
                write_plain(labels[case], values, first.geometry)
        told += _what_to_know(label_names, present, unoriented)
        if moved:
            told.append(f"{moved[0]} was put on its image voxel for voxel ({len(moved)} files): look at the result")
        with already_told():
            write_segmentation_dataset(
                output,
                channels={name: _of(files, tests, inside=False) for name, files in images.items()},
                labels=_of(labels, tests, inside=False),
                label_names=label_names,
                test_channels={name: _of(files, tests, inside=True) for name, files in images.items()},
                test_labels=_of(labels, tests, inside=True),
                record=_record(layout, scans, table, told, options),
                console=console,
            )
    return Conversion(output, tuple(told))


def leave_out_incomplete(
    problems: Mapping[str, str], options: ConversionOptions, *, layout: str, found: int
) -> list[str]:
    """The warnings for incomplete cases that are skipped; UHFError for the first one where they may not be.

    Args:
        problems: by case name, what is missing and where.
        options: whether such cases are left out.
        layout: name of the layout, for the message.
        found: number of complete cases.
    """
    if problems and not options.skip_incomplete:
        raise UHFError(f"{next(iter(problems.values()))}: add it, or leave such cases out (--skip-incomplete)")
    if found == 0:
        raise UHFError(f"no complete {layout} case is left: {next(iter(problems.values()), 'the folder holds none')}")
    return [f"left out {case}: {problem}" for case, problem in problems.items()]


def _require_own_files(scans: Mapping[str, LabelledScan]) -> None:
    """UHFError when one scan is used twice; scans on a template may share its label map."""
    files = {f"{case} ({name})": path for case, scan in scans.items() for name, path in scan.images.items()}
    require_distinct(files)


def _test_cases(scans: Mapping[str, LabelledScan], test: Collection[str]) -> set[str]:
    """The named cases, which must be there; training cases have labels."""
    chosen = set(test)
    unknown = sorted(chosen - set(scans))
    if unknown:
        raise UHFError(
            f"test case {unknown[0]} is not among the cases: use the names {', '.join(list(scans)[:3])}, ..."
        )
    for case, scan in scans.items():
        if case not in chosen and scan.labels is None:
            raise UHFError(f"{next(iter(scan.images.values()))} has no label map: add it, or make {case} a test case")
    if chosen == set(scans):
        raise UHFError("every case is a test case: leave some for training")
    return chosen


def _check_image(image: SourceImage, first: SourceImage) -> None:
    """An image has contrast and lies on the grid of its case's first channel."""
    if image.data.min() == image.data.max():
        raise UHFError(f"{image.path} has the same intensity everywhere: leave the case out or export the scan again")
    if image is not first:
        require_equal_grids(first.path, first.grid, image.path, image.grid)


def _on_grid(labels: SourceImage, image: SourceImage, *, same_voxels: bool) -> SourceImage:
    """The label map, on the grid of its image by its own affine, or voxel for voxel; UHFError when it is not."""
    placed = dataclasses.replace(labels, affine=image.affine, other=image.other) if same_voxels else labels
    require_equal_grids(image.path, image.grid, placed.path, placed.grid)
    return placed


def _what_to_know(label_names: Mapping[str, int], present: set[int], unoriented: list[Path]) -> list[str]:
    """Warnings about sides, structures that never occur, and headers without orientation."""
    told = []
    if tells_sides_apart(label_names):
        told.append(MIRRORING)
    absent = [name for name, value in label_names.items() if value and value not in present]
    if absent:
        told.append(f"no case holds {', '.join(absent)}")
    if unoriented:
        told.append(
            f"{unoriented[0]} does not say which side is left ({len(unoriented)} such files): "
            "check the orientation before you trust left and right"
        )
    return told


def _record(
    layout: str, scans: Mapping[str, LabelledScan], table: LabelTable, warnings: list[str], options: ConversionOptions
) -> dict[str, Any]:
    """Content of conversion.json."""
    return {
        "format": 1,
        "package_version": nnunet_uhf.__version__,
        "layout": layout,
        **({"clahe": RECORD} if options.clahe else {}),
        "label_numbers": {str(number): name or "background" for number, name in sorted(table.numbers.items())},
        "warnings": warnings,
        "cases": {
            case: {
                "images": {channel: str(path) for channel, path in scan.images.items()},
                "labels": None if scan.labels is None else str(scan.labels),
                **scan.facts,
            }
            for case, scan in scans.items()
        },
    }


def _of(files: Mapping[str, Path], cases: set[str], *, inside: bool) -> dict[str, Path]:
    """The files of the cases inside or outside a set."""
    return {case: path for case, path in files.items() if (case in cases) is inside}


def _progress(scans: Mapping[str, LabelledScan], title: str, console: Console | None) -> Any:
    """Cases with a progress bar on the console, or without one."""
    return scans.items() if console is None else track(list(scans.items()), description=title, console=console)
