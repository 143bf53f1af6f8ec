"""The scores of one predicted label map against the true one, structure by structure.

=====================  =====================================  ==========================================
Truth and prediction   both without the structure             one without the structure
=====================  =====================================  ==========================================
Dice                   undefined, as in nnU-Net               0
NSD                    undefined                              0
HD95                   undefined                              the diagonal of the image, the worst there can be
volume error in mm^3   0                                      the volume of the other
volume error in %      undefined                              100, or undefined where the truth lacks it
=====================  =====================================  ==========================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.evaluation.surface import surface_distances
from nnunet_uhf.nnunet.labels import Labels, Structure

Scores = dict[str, float]
MEAN = "mean"
"""Name of the mean over all structures."""


@dataclass(frozen=True)
class Metric:
    """A metric as it is written and judged."""

    key: str
    title: str
    unit: str
    higher_is_better: bool
    digits: int


METRICS = (
    Metric("dice", "Dice", "", higher_is_better=True, digits=4),
    Metric("hd95_mm", "HD95", "mm", higher_is_better=False, digits=2),
    Metric("nsd", "NSD", "", higher_is_better=True, digits=4),
    Metric("volume_error_mm3", "Volume error", "mm³", higher_is_better=False, digits=0),
    Metric("volume_error_percent", "Volume error", "%", higher_is_better=False, digits=2),
)
VOLUMES = ("reference_volume_mm3", "predicted_volume_mm3")


def case_scores(
    reference: NDArray[Any],
    prediction: NDArray[Any],
    task: Labels,
    *,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> dict[str, Scores]:
    """Scores of every structure, and under :data:`MEAN` their mean over the structures where each is defined.

    Volume errors are absolute. NaN stands for undefined. What the reference does not annotate (the ignore label)
    counts for nothing in either label map.

    Args:
        reference: true label map (X, Y, Z).
        prediction: predicted label map on the same grid.
        task: the structures and the ignore label.
        spacing_mm: voxel size along each axis.
        tolerance_mm: how far surfaces may lie apart for NSD.
    """
    diagonal = math.sqrt(sum((n * step) ** 2 for n, step in zip(reference.shape, spacing_mm, strict=True)))
    voxel_mm3 = math.prod(spacing_mm)
    if task.ignore is not None:
        prediction = np.where(reference == task.ignore, 0, prediction)
    scores = {}
    for structure in task.structures:
        true, predicted = _cropped(structure, reference, prediction)
        scores[structure.name] = _score(true, predicted, spacing_mm, voxel_mm3, diagonal, tolerance_mm)
    if len(task.structures) > 1:
        scores[MEAN] = mean_scores(scores)
    return scores


def mean_scores(scores: Mapping[str, Scores]) -> Scores:
    """The mean of each score over the structures where it is defined; NaN where it is defined for none."""
    means = {}
    for key in next(iter(scores.values())):
        values = [each[key] for each in scores.values() if not math.isnan(each[key])]
        means[key] = float(np.mean(values)) if values else math.nan
    return means


def _cropped(
    structure: Structure, reference: NDArray[Any], prediction: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both masks in the box that holds them: outside it neither has a voxel, so no surface changes.

    An axis of one voxel in the image stays one; an axis that the box alone cuts to one voxel keeps a second, empty
    one, so that it is not taken for the axis of a 2D image.
    """
    true, predicted = structure.mask(reference), structure.mask(prediction)
    either = true | predicted
    box = []
    for axis, size in enumerate(either.shape):
        others = tuple(each for each in range(either.ndim) if each != axis)
        where = np.flatnonzero(either.any(axis=others))
        low, high = (int(where[0]), int(where[-1]) + 1) if len(where) else (0, min(2, size))
        if high - low == 1 and size > 1:
            low, high = (low, high + 1) if high < size else (low - 1, high)
        box.append(slice(low, high))
    return true[tuple(box)], predicted[tuple(box)]


def _score(
    true: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    voxel_mm3: float,
    diagonal_mm: float,
    tolerance_mm: float,
) -> Scores:
    volume, predicted_volume = int(true.sum()), int(predicted.sum())
    scores = dict.fromkeys((metric.key for metric in METRICS), math.nan)
    if volume and predicted_volume:
        distances = surface_distances(true, predicted, spacing_mm)
        scores["dice"] = 2 * int((true & predicted).sum()) / (volume + predicted_volume)
        scores["hd95_mm"], scores["nsd"] = distances.hd95, distances.nsd(tolerance_mm)
    elif volume or predicted_volume:
        scores["dice"], scores["hd95_mm"], scores["nsd"] = 0.0, diagonal_mm, 0.0
    error = abs(predicted_volume - volume)
    scores["volume_error_mm3"] = error * voxel_mm3
    if volume:
        scores["volume_error_percent"] = 100 * error / volume
    return {**scores, VOLUMES[0]: volume * voxel_mm3, VOLUMES[1]: predicted_volume * voxel_mm3}
