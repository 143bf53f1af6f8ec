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

from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.evaluation.label_scores import Scores, case_scores
from nnunet_uhf.imageio.volumes import read_any_labels, require_any_same_grid
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
    cases: Sequence[Case],
    task: Labels,
    *,
    tolerance_mm: float,
    num_processes: int,
    console: Console | None = None,
    odd: Odd,
) -> dict[str, MeasuredCase]:
    """All cases, in their order, whatever the number of processes.

    `odd` keeps the cases that cannot be measured: a damaged file, or grids that differ within a case.
    """
    done: dict[str, MeasuredCase] = {}
    with Progress(console=console, disable=console is None) as bar:
        advance = bar.add_task("measuring", total=len(cases))
        measure = partial(measure_case, task=task, tolerance_mm=tolerance_mm)
        for name, measured in each_done(measure, cases, num_processes):
            with odd.kept(name):
                done[name] = _measured(measured)
            bar.advance(advance)
    return {case.name: done[case.name] for case in cases if case.name in done}


def _measured(found: MeasuredCase | UHFError) -> MeasuredCase:
    if isinstance(found, UHFError):
        raise found
    return found


def measure_case(case: Case, task: Labels, tolerance_mm: float) -> tuple[str, MeasuredCase | UHFError]:
    """The name of a case, and what is measured of it, or why nothing is."""
    try:
        return case.name, _measure(case, task, tolerance_mm)
    except UHFError as error:
        return case.name, error


def _measure(case: Case, task: Labels, tolerance_mm: float) -> MeasuredCase:
    reference, affine = read_any_labels(case.reference)
    spacing = [float(size) for size in voxel_sizes(affine)]
    scores = {}
    unknown = {REFERENCE: task.unknown(np.unique(reference).tolist())}
    for entry, path in case.predictions.items():
        require_any_same_grid(case.reference, path)
        prediction, _ = read_any_labels(path)
        scores[entry] = case_scores(reference, prediction, task, spacing_mm=spacing, tolerance_mm=tolerance_mm)
        unknown[entry] = task.unknown(np.unique(prediction).tolist())
    return MeasuredCase(scores, {name: values for name, values in unknown.items() if values})
