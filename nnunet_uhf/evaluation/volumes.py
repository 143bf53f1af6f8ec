"""``nnunet-uhf volumes``: how large every structure of every segmentation is, and how much folds disagree (ours)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from nnunet_uhf import __version__
from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.imageio.output import write_table, written_whole
from nnunet_uhf.imageio.volumes import read_any_labels, require_any_same_grid, volume_files, volume_name
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.nnunet.labels import Labels, read_structures
from nnunet_uhf.nnunet.model_folder import DATASET_JSON, description_of
from nnunet_uhf.nnunet.probabilities import PREDICT, read_probabilities

TOTAL = "total"
DEFINITIONS = {
    "volume": "voxels of the segmentation times the volume of a voxel (determinant of the affine); of several folds "
    "the mean over them",
    "soft_volume": "sum of the probabilities times the volume of a voxel; of several folds the mean over them",
    "std": "standard deviation over the folds (n - 1)",
    "cv": "standard deviation over the folds divided by their mean; null where the mean is 0",
    "folds": "the values of the folds, in the order of the folders",
    "total": "voxels of any structure; soft only where structures do not overlap",
}
_IN_JSON_ONLY = ("volume_folds_mm3", "soft_volume_folds_mm3")
MM3_PER_ML = 1000.0
_NAME_IT = "name the dataset.json of the predicted dataset (-djson)"


@dataclass(frozen=True)
class MeasuredVolumes:
    """One segmentation: sizes in the order of the structures, then the total of all of them.

    ``soft`` is the volume by probabilities, None where there are none (and of the total of overlapping regions).
    """

    voxel_mm3: float
    voxels: list[int]
    soft_mm3: list[float | None]


def measure_volumes(
    folders: Sequence[Path],
    output: Path,
    *,
    dataset_json: Path | None = None,
    millilitres: bool = False,
    probabilities: bool = True,
    overwrite: bool = False,
    console: Console | None = None,
    odd: Odd | None = None,
) -> dict[str, Any]:
    """Write the volume of every structure of every case as CSV, and the same with more detail as JSON beside it.

    Args:
        folders: folders of segmentations (NIfTI); several are the predictions of folds for the same cases.
        output: the CSV file; the JSON file has its name.
        dataset_json: names of labels and regions; by default that of the first folder.
        millilitres: add a column in ml; volumes are in mm^3 otherwise.
        probabilities: add volumes by probabilities where the folders hold them (.npz of ``--save_probabilities``).
        overwrite: replace files that are there.
        console: shows a progress bar when given.
        odd: keeps the cases that cannot be measured, while some can; without it the first of them is an error.

    Returns:
        The content of the JSON file.

    Raises:
        UHFError: folders without common cases or labels, a damaged file, labels that dataset.json does not name.
    """
    check_outputs(output, overwrite=overwrite)
    for folder in folders:
        if not folder.is_dir():
            raise UHFError(f"{folder} is not a folder: name the folder of the segmentations (-i)")
    described = dataset_json or description_of(folders[0], DATASET_JSON)
    task = read_structures(read_json(described, advice=_NAME_IT), where=described)
    if any(structure.name == TOTAL for structure in task.structures):
        raise UHFError(f"{described} calls a label {TOTAL!r}, which the table uses for the sum of all; rename it")
    for folder in folders[1:] if dataset_json is None else ():
        _require_same_labels(folder, task, described)
    cases = _common_cases(folders)
    soft = probabilities and _have_probabilities(cases)
    progress = cases.items() if console is None else track(cases.items(), description="volumes", console=console)
    rows = []
    for case, files in progress:
        with nullcontext() if odd is None else odd.kept(case):
            for other in files[1:]:
                require_any_same_grid(files[0], other)
            rows.append(_row(case, [measure_segmentation(path, task, soft=soft) for path in files], task))
    if odd is not None:
        odd.require_others(len(cases))
    settings = {
        "folders": [str(folder) for folder in folders],
        "dataset_json": str(described),
        "regions": has_regions(task),
        "probabilities": soft,
        **(
            {"left_out": {case: str(why) for case, why in odd.reasons.items()}}
            if odd is not None and odd.reasons
            else {}
        ),
    }
    return write_tables(output, settings=settings, rows=rows, task=task, millilitres=millilitres)


def has_regions(task: Labels) -> bool:
    """Whether a task is one of regions, as nnU-Net decides it: structures may overlap, and none is the background."""
    return any(len(structure.values) > 1 for structure in task.structures)


def measure_segmentation(path: Path, task: Labels, *, soft: bool = False) -> MeasuredVolumes:
    """Count the voxels of every structure in a segmentation, and with ``soft`` sum its probabilities.

    The volume of a voxel is the determinant of the affine: right for any orientation, oblique and sheared grids. Sums
    do not depend on the order of axes either, so probabilities need no reorientation.

    Raises:
        UHFError: not a label map, labels that dataset.json does not name, damaged probabilities.
    """
    labels, affine = read_any_labels(path)
    values, counts = np.unique(labels, return_counts=True)
    count = {int(value): int(n) for value, n in zip(values, counts, strict=True)}
    if unknown := task.unknown(count):
        raise UHFError(f"{path} holds the label {unknown[0]}, which dataset.json does not name: {_NAME_IT}")
    groups = [*(structure.values for structure in task.structures), task.foreground]
    # files keep affines in single precision: what is further behind is rounding
    voxel = float(f"{abs(np.linalg.det(affine[:3, :3])):.7g}")
    sums: list[float | None] = [None] * len(groups)
    if soft:
        # the first channel is the background's, except with regions
        first = 0 if has_regions(task) else 1
        shape = (first + len(task.structures), *labels.shape[::-1])
        channels = read_probabilities(_probabilities_of(path), shape, any_axis_order=True)
        parts = [float(channel.sum(dtype=np.float64)) * voxel for channel in channels[first:]]
        sums = [*parts, sum(parts) if first else None]
    return MeasuredVolumes(voxel, [sum(count.get(value, 0) for value in group) for group in groups], sums)


def _row(case: str, folds: Sequence[MeasuredVolumes], task: Labels) -> dict[str, Any]:
    """One case of the JSON file."""
    named = {}
    for index, name in enumerate([*(structure.name for structure in task.structures), None]):
        voxels = [fold.voxels[index] for fold in folds]
        soft = [value for fold in folds if (value := fold.soft_mm3[index]) is not None]
        entry: dict[str, Any] = {"voxels": voxels[0]} if len(folds) == 1 else {}
        entry |= _spread("volume", [fold.voxel_mm3 * n for fold, n in zip(folds, voxels, strict=True)])
        named[name] = entry | (_spread("soft_volume", soft) if soft else {})
    total = named.pop(None)
    return {"case": case, "voxel_volume_mm3": folds[0].voxel_mm3, "structures": named, TOTAL: total}


def _spread(name: str, values: Sequence[float]) -> dict[str, Any]:
    """A volume; of several folds mean, standard deviation (n - 1) and coefficient of variation, None of nothing."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return {f"{name}_mm3": mean}
    std = float(np.std(values, ddof=1))
    variation = std / mean if mean > 0 else None
    return {f"{name}_mm3": mean, f"{name}_std_mm3": std, f"{name}_cv": variation, f"{name}_folds_mm3": list(values)}


def _common_cases(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of every case, one a folder; UHFError when one folder lacks what another has."""
    found = [volume_files(folder) for folder in folders]
    for folder, files in zip(folders, found, strict=True):
        if missing := sorted(set().union(*found) - set(files)):
            raise UHFError(f"{folder} holds no segmentation of {missing[0]}, which another folder has: add it (-i)")
    return {case: [files[case] for files in found] for case in found[0]}


def _have_probabilities(cases: dict[str, list[Path]]) -> bool:
    """Whether there are probabilities; UHFError when some are missing."""
    files = [_probabilities_of(path) for paths in cases.values() for path in paths]
    missing = [path for path in files if not path.is_file()]
    if missing and len(missing) < len(files):
        raise UHFError(f"{missing[0]} is missing, others are there: {PREDICT}, or go on with --no-probabilities")
    return not missing


def _probabilities_of(segmentation: Path) -> Path:
    return segmentation.with_name(f"{volume_name(segmentation)}.npz")


def _require_same_labels(folder: Path, task: Labels, described: Path) -> None:
    path = description_of(folder, DATASET_JSON)
    if read_structures(read_json(path, advice=_NAME_IT), where=path) != task:
        raise UHFError(f"{path} has other labels than {described}: folds of one model have the same (-i)")


def check_outputs(table: Path, *, overwrite: bool) -> None:
    """UHFError when the table's name is no .csv, or when it or the JSON file beside it is there already."""
    if table.suffix.lower() != ".csv":
        raise UHFError(f"{table}: the name of the table must end in .csv (-o)")
    for path in (table, json_beside(table)):
        if path.exists() and not overwrite:
            raise UHFError(f"{path} is there already: name another table (-o), or replace it with --overwrite")


def json_beside(table: Path) -> Path:
    """Where the JSON file of a table lies."""
    return table.with_suffix(".json")


def write_tables(
    table: Path,
    *,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    task: Labels,
    millilitres: bool,
) -> dict[str, Any]:
    """Write the JSON file, then the table, each whole or not at all; returns the content of the first.

    The table has a line for every structure of every case and one for their total, which has no label.
    """
    record = {
        "format": 1,
        "package_version": __version__,
        **settings,
        "labels": {structure.name: list(structure.values) for structure in task.structures},
        "definitions": DEFINITIONS,
        "cases": list(rows),
    }
    lines = list(_lines(rows, task, millilitres=millilitres))
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    with written_whole(json_beside(table)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    write_table(table, lines)
    return record


def _lines(rows: Sequence[Mapping[str, Any]], task: Labels, *, millilitres: bool) -> Iterator[dict[str, Any]]:
    for row in rows:
        entries = [(name, row["structures"][name]) for name in row["structures"]]
        labels = [" ".join(map(str, structure.values)) for structure in task.structures]
        # the total last: without a soft volume of its own its line has an empty cell there
        for (name, entry), label in zip([*entries, ("total", row["total"])], [*labels, ""], strict=True):
            line = {"case": row["case"], "structure": name, "label": label, "volume_mm3": entry["volume_mm3"]}
            if millilitres:
                line["volume_ml"] = entry["volume_mm3"] / MM3_PER_ML
            columns = [key for key in entries[0][1] if key not in _IN_JSON_ONLY]
            line |= {key: entry.get(key) for key in columns if key != "volume_mm3"}
            yield {key: _short(value) for key, value in line.items()}


def _short(value: Any) -> Any:
    """Numbers without the digits that are rounding."""
    return f"{value:.10g}" if isinstance(value, float) else value
