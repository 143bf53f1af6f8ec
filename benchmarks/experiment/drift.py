"""How far the maps of a keeper drift as the low field gets worse: one clean target should hold them still.

Of each test subject the maps of a severity are read at points of its labelled structures, and held against those of the
severity that the labels are on: root mean square of the difference over the standard deviation of the map, mean over
maps. 0 is no drift; 1.4 (the square root of 2) is what two unrelated maps of that spread have.
"""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiment.conditions import KEEPERS
from experiment.data import simulated_folder, subjects
from experiment.settings import Places, Settings, Task
from nnunet_uhf.evaluation.probe.readers import Reader, network_reader
from nnunet_uhf.inference.map_source import map_source

POINTS = 2000
"""Drawn of each subject."""
RANDOM = "random"
"""A network of the first keeper's kind that has learnt nothing."""


def drift_of_keepers(settings: Settings, task: Task, places: Places, *, device: str) -> list[dict[str, Any]]:
    """A line for every keeper file of the run, and one for random weights, and every tested severity."""
    files = {name: places.keeper(name) for name in KEEPERS if places.keeper(name).is_file()}
    place = torch.device(device)
    readers = {name: network_reader(map_source(path), place) for name, path in files.items()}
    for path in list(files.values())[:1]:
        readers[RANDOM] = network_reader(map_source(path, drawn=0), place)
    return [line for name in track(readers, "drift") for line in _drift(name, readers[name], settings, task, places)]


def _drift(name: str, read: Reader, settings: Settings, task: Task, places: Places) -> list[dict[str, Any]]:
    by_subject: dict[str, list[float]] = {severity.name: [] for severity in settings.tests}
    for index, case in enumerate(subjects(settings, task, places)["test"]):
        points = _points(places, task, case, np.random.default_rng(index))

        def maps(severity: Any, case: str = case, points: NDArray[np.float64] = points) -> NDArray[np.float32]:
            return read((simulated_folder(places, "test", severity, 0) / f"{case}.nii.gz",)).at(points)

        first = maps(settings.trained)
        for severity in settings.tests:
            by_subject[severity.name].append(drift(first, maps(severity)))
    return [
        {"keeper": name, "severity": severity, "drift": float(np.mean(values)), "by_subject": values}
        for severity, values in by_subject.items()
    ]


def drift(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Of maps `(N, C)` at the same points; maps that are constant in the first are left out, NaN where all are."""
    spread = first.std(axis=0)
    alive = spread > 1e-6
    moved = np.sqrt(((second - first) ** 2).mean(axis=0))
    return float((moved[alive] / spread[alive]).mean()) if alive.any() else float("nan")


def _points(places: Places, task: Task, case: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(N, 3)` in mm: centres of voxels of labelled structures."""
    labels = nib.load(places.labels(task) / f"{case}.nii.gz")
    voxels = np.argwhere(np.asarray(labels.dataobj) > 0)
    chosen = voxels[rng.permutation(len(voxels))[:POINTS]]
    return np.asarray(chosen @ labels.affine[:3, :3].T + labels.affine[:3, 3])


def print_drift(lines: list[dict[str, Any]], console: Console) -> None:
    """A row a keeper, a column a severity; nothing where there is no line."""
    severities = list(dict.fromkeys(line["severity"] for line in lines))
    table = Table(title="Drift of a keeper's maps from those of the severity trained at, mean over test subjects")
    for heading in ("keeper", *severities):
        table.add_column(heading)
    for name in dict.fromkeys(line["keeper"] for line in lines):
        found = {line["severity"]: line["drift"] for line in lines if line["keeper"] == name}
        table.add_row(name, *(f"{found[severity]:.2f}" for severity in severities))
    if lines:
        console.print(table)
