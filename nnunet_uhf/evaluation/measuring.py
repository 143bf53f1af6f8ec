"""Measures every prediction of every case, several cases at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes
from rich.console import Console
from rich.progress import Progress

from nnunet_uhf.evaluation.label_scores import Scores, case_scores
from nnunet_uhf.imageio.label_maps import read_labels
from nnunet_uhf.imageio.nifti import require_same_grid
from nnunet_uhf.nnunet.labels import Labels
from nnunet_uhf.workers import each_done


@dataclass(frozen=True)
class Case:
    """A case with its true label map and its predicted ones, by entry."""

    name: str
    reference: Path
    predictions: Mapping[str, Path]


#: case -> entry -> structure -> score
Measured = dict[str, dict[str, dict[str, Scores]]]
REFERENCE = "the true label maps"


@dataclass(frozen=True)
class MeasuredCase:
    """Scores of a case by entry and structure, and label values that are no structure, by entry or `REFERENCE`."""

    scores: dict[str, dict[str, Scores]]
    unknown: dict[str, list[int]]


def measure_cases(
    cases: Sequence[Case], task: Labels, *, tolerance_mm: float, num_processes: int, console: Console | None = None
) -> dict[str, MeasuredCase]:
    """All cases, in their order, whatever the number of processes.

    Raises:
        UHFError: a damaged file, or grids that differ within a case.
    """
    done: dict[str, MeasuredCase] = {}
    with Progress(console=console, disable=console is None) as bar:
        advance = bar.add_task("measuring", total=len(cases))
        measure = partial(measure_case, task=task, tolerance_mm=tolerance_mm)
        for name, measured in each_done(measure, cases, num_processes):
            done[name] = measured
            bar.advance(advance)
    return {case.name: done[case.name] for case in cases}


def measure_case(case: Case, task: Labels, tolerance_mm: float) -> tuple[str, MeasuredCase]:
    """The name of a case, and what is measured of it."""
    reference, affine = read_labels(case.reference)
    spacing = [float(size) for size in voxel_sizes(affine)]
    scores = {}
    unknown = {REFERENCE: task.unknown(np.unique(reference).tolist())}
    for entry, path in case.predictions.items():
        require_same_grid(case.reference, path)
        prediction, _ = read_labels(path)
        scores[entry] = case_scores(reference, prediction, task, spacing_mm=spacing, tolerance_mm=tolerance_mm)
        unknown[entry] = task.unknown(np.unique(prediction).tolist())
    return case.name, MeasuredCase(scores, {name: values for name, values in unknown.items() if values})
