"""Write raw nnU-Net datasets from files that lie on one grid: pairs for enhancement, images for segmentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
from rich.console import Console
from rich.progress import track

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.header import as_nifti1, header_in_mm
from nnunet_uhf.imageio.label_maps import read_labels
from nnunet_uhf.imageio.nifti import copy_compressed, read_volume, require_same_grid, write_labels
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.preprocessing.datasets.checks import Files, check_cases, check_dataset_folder, check_label_map, names_of
from nnunet_uhf.routes.table import stored_routes

RECORD_NAME = "conversion.json"


def write_paired_dataset(
    output: Path,
    *,
    sources: Files,
    targets: Files,
    labels: Files,
    label_names: Mapping[str, int],
    source_channel: str = "LF",
    target_channel: str = "HF",
    source_field_T: float,
    target_field_T: float,
    route: str,
    simulation: Mapping[str, Any] | None = None,
    architecture: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    notes: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> Path:
    """Write an enhancement dataset: channel 0 is the low-field source, channel 1 the high-field target.

    Source, target and label map of a case must share one grid. Files are copied, never moved or changed;
    the dataset appears complete or not at all.

    Args:
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        sources: low-field NIfTI file of each case.
        targets: high-field NIfTI file of each case, same cases.
        labels: label map (tissues or brain mask) of each case, same cases.
        label_names: name to label value, `background` is 0, values consecutive.
        source_channel: name of the source channel; guided datasets are matched to it.
        target_channel: name of the target channel.
        source_field_T: field strength in tesla, > 0.
        target_field_T: field strength in tesla, > 0.
        route: `paired` (real scans of both field strengths) or `simulated`.
        simulation: how simulated sources were made, for the headers of keepers.
        architecture: constructor arguments of teacher and keeper that differ from the defaults.
        record: where the cases come from, written as `conversion.json` beside `dataset.json`.
        notes: further text files by name, beside `dataset.json`.
        console: shows a progress bar when given.

    Returns:
        `output`.

    Raises:
        UHFError: missing or damaged files, unequal grids, unknown labels, names in use.
    """
    block = paired_block(
        output,
        source_channel=source_channel,
        target_channel=target_channel,
        source_field_T=source_field_T,
        target_field_T=target_field_T,
        route=route,
    )
    if simulation is not None:
        block["simulation"] = dict(simulation)
    if architecture is not None:
        block["architecture"] = dict(architecture)
    return _write_dataset(
        output,
        channels={source_channel: sources, target_channel: targets},
        labels=labels,
        label_names=label_names,
        extra={"uhf": block},
        record=record,
        notes=notes,
        console=console,
    )


def paired_block(
    output: Path,
    *,
    source_channel: str,
    target_channel: str,
    source_field_T: float,
    target_field_T: float,
    route: str,
) -> dict[str, Any]:
    """The `uhf` object of an enhancement dataset's dataset.json; UHFError when it would make no sense."""
    if route not in stored_routes():
        raise UHFError(f"route is {route!r} for {output}: use one of {', '.join(stored_routes())}")
    if source_channel.lower() == target_channel.lower():
        raise UHFError(f"source and target channel of {output} are both named {source_channel}: give two names")
    for what, field in (("source_field_T", source_field_T), ("target_field_T", target_field_T)):
        if not 0 < field < float("inf"):
            raise UHFError(f"{what} is {field} for {output}: give the field strength in tesla")
    return {
        "source": source_channel,
        "target": target_channel,
        "source_field_T": source_field_T,
        "target_field_T": target_field_T,
        "route": route,
    }


def write_segmentation_dataset(
    output: Path,
    *,
    channels: Mapping[str, Files],
    labels: Files,
    label_names: Mapping[str, int],
    test_channels: Mapping[str, Files] | None = None,
    test_labels: Files | None = None,
    uhf: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Path:
    """Write a segmentation dataset from images and label maps on one grid.

    Args:
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        channels: by name and in their order, the NIfTI file of each training case, such as
            ``{"T1w": {"anna": path, ...}}``; a keeper is matched to the channel of its own source's name.
        labels: label map of each training case, same cases and grids.
        label_names: name to label value, `background` is 0, values consecutive.
        test_channels: the same channels of the test cases, for imagesTs; none may be a training case.
        test_labels: label maps of all or some of the test cases, for labelsTs (which nnU-Net itself does not read).
        uhf: the `uhf` object of dataset.json, for datasets that are more than a segmentation task.
        record: where the cases come from, written as `conversion.json` beside `dataset.json`.
        console: shows a progress bar when given.

    Returns:
        `output`.

    Raises:
        UHFError: missing or damaged files, unequal grids, unknown labels, names in use.
    """
    return _write_dataset(
        output,
        channels=channels,
        labels=labels,
        label_names=label_names,
        extra={} if uhf is None else {"uhf": dict(uhf)},
        test_channels=test_channels,
        test_labels=test_labels,
        record=record,
        console=console,
    )


def _write_dataset(
    output: Path,
    *,
    channels: Mapping[str, Files],
    labels: Files,
    label_names: Mapping[str, int],
    extra: Mapping[str, Any],
    console: Console | None,
    test_channels: Mapping[str, Files] | None = None,
    test_labels: Files | None = None,
    record: Mapping[str, Any] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Check everything that is cheap, then copy case by case into a folder that appears at the end."""
    test_channels, test_labels = test_channels or {}, test_labels or {}
    check_dataset_folder(output, label_names)
    check_cases(channels, labels, test_channels, test_labels, output)
    values = set(label_names.values())
    with appearing_together(output) as (folder,):
        for case in _progress(sorted(labels), f"writing {output.name}", console):
            _copy_case(folder, "Tr", case, channels, labels, values)
        for case in sorted(names_of(test_channels)):
            _copy_case(folder, "Ts", case, test_channels, test_labels, values)
        description = {
            "channel_names": {str(index): name for index, name in enumerate(channels)},
            "labels": dict(label_names),
            "numTraining": len(labels),
            "file_ending": ".nii.gz",
            **extra,
        }
        _write_json(folder / "dataset.json", description)
        if record is not None:
            _write_json(folder / RECORD_NAME, record)
        for name, text in (notes or {}).items():
            (folder / name).write_text(text, encoding="utf-8")
    return output


def _copy_case(
    folder: Path, part: str, case: str, channels: Mapping[str, Files], labels: Files, values: set[int]
) -> None:
    """Check one case and copy its channels and, when it has one, its label map to images`part` and labels`part`."""
    first = next(iter(channels.values()))[case]
    for index, files in enumerate(channels.values()):
        require_same_grid(first, files[case])
        read_volume(files[case])  # a damaged file or NaN must not surface hours later
        _copy_to(folder / f"images{part}", files[case], f"{case}_{index:04d}.nii.gz", pattern=first)
    if case in labels:
        require_same_grid(first, labels[case])
        check_label_map(labels[case], values)
        _write_labels(folder / f"labels{part}", labels[case], f"{case}.nii.gz", pattern=first)


def _copy_to(folder: Path, source: Path, name: str, *, pattern: Path) -> None:
    """Copy a file into a folder that is made when it is first needed; all files of a case lie where `pattern` does."""
    folder.mkdir(exist_ok=True)
    copy_compressed(source, folder / name, pattern=pattern)


def _write_labels(folder: Path, source: Path, name: str, *, pattern: Path) -> None:
    """Copy a label map, or write it anew where a scale in its header makes its numbers not quite whole."""
    read = nib.load(source)
    slope, inter = read.dataobj.slope, read.dataobj.inter
    if read.get_data_dtype().kind in "iu" and (slope, inter) == (1, 0):
        _copy_to(folder, source, name, pattern=pattern)
        return
    folder.mkdir(exist_ok=True)
    header = header_in_mm(as_nifti1(nib.load(pattern).header))
    write_labels(folder / name, read_labels(source)[0], header=header)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """JSON as people read it, names in their own letters."""
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _progress(cases: list[str], title: str, console: Console | None) -> Any:
    """Cases with a progress bar on the console, or without one."""
    return cases if console is None else track(cases, description=title, console=console)
