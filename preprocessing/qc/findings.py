"""What a computer can say of a case before a person looks: unlike the others, not aligned, structures amiss (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import normalized_mutual_information

from nnunet_uhf.nnunet.labels import left_and_right
from nnunet_uhf.types import FloatArray, LabelArray

FENCE = 1.5  # times the interquartile range beyond the quartiles: Tukey's rule for outliers
FAR_FENCE = 3.0  # and for those far out
LARGEST_FACTOR = 1.5  # between a volume and the median: less is anatomy
ENOUGH_CASES = 8  # quartiles of fewer mean little

Structures = Mapping[str, tuple[int, ...]]
"""Name of a structure -> its values in a label map."""


def likeness(source: FloatArray, target: FloatArray, mask: NDArray[np.bool_]) -> float:
    """Normalised mutual information (Studholme et al. 1999), 1 to 2, of two volumes (X, Y, Z) in the mask's box.

    Does not ask which tissue is the brighter one, so it compares contrasts. 1 where an image is constant.
    """
    where = np.argwhere(mask)
    box = tuple(slice(a, b + 1) for a, b in zip(where.min(axis=0), where.max(axis=0), strict=True))
    first, second = source[box], target[box]
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 1.0
    return float(normalized_mutual_information(first, second, bins=64))


def suspects(values: Sequence[float]) -> list[bool]:
    """Which values lie below Tukey's lower fence; none among fewer than 8."""
    if len(values) < ENOUGH_CASES:
        return [False] * len(values)
    lower, upper = np.percentile(values, [25, 75])
    return [bool(value < lower - FENCE * (upper - lower)) for value in values]


def volumes_ml(labels: LabelArray, structures: Structures, voxel_mm3: float) -> dict[str, float]:
    """Volume of every structure in millilitres, 0 where it is missing."""
    values, counts = np.unique(labels, return_counts=True)
    of_value = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return {
        name: sum(of_value.get(value, 0) for value in members) * voxel_mm3 / 1000
        for name, members in structures.items()
    }


def written_ml(millilitres: float) -> str:
    """A volume as people read it: 1652, 84.3, 0.52; never with a power of ten."""
    return (
        f"{millilitres:.0f}"
        if millilitres >= 100
        else f"{millilitres:.3g}"
        if millilitres >= 0.1
        else f"{millilitres:.3f}"
    )


def unusual_volumes(cases: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """A sentence for every structure of a case that is missing, or far larger or smaller than in the other cases.

    Far is beyond Tukey's outer fence and 1.5 times the median or less than two thirds of it, among 8 cases at least.
    """
    found: list[list[str]] = [[f"{name} is missing" for name, volume in case.items() if volume == 0] for case in cases]
    if len(cases) < ENOUGH_CASES:
        return found
    for name in cases[0]:
        volumes = [case[name] for case in cases]
        lower, median, upper = np.percentile(volumes, [25, 50, 75])
        reach = FAR_FENCE * (upper - lower)
        for sentences, volume in zip(found, volumes, strict=True):
            far = not lower - reach <= volume <= upper + reach
            if volume > 0 and far and not 1 / LARGEST_FACTOR <= volume / median <= LARGEST_FACTOR:
                sentences.append(f"{name} has {written_ml(volume)} ml, the median case {written_ml(median)}")
    return found


def exchanged_sides(labels: LabelArray, structures: Structures) -> list[str]:
    """A sentence for every left structure that lies to the right of its counterpart.

    Labels (X, Y, Z) have standard axes: X grows towards the patient's right. Sides are read from names such as
    Left-Putamen, ctx_lh_insula or hippocampus_L.
    """
    centres = {name: _centre(labels, members) for name, members in structures.items()}
    return [
        f"{left} lies to the right of {right}: orientation or names are wrong"
        for left, right in left_and_right(structures)
        if centres[left] >= centres[right]  # NaN of a missing one: never
    ]


def _centre(labels: LabelArray, members: tuple[int, ...]) -> float:
    """Mean index along X; NaN when the structure is missing."""
    inside = np.isin(labels, members)
    counts = inside.sum(axis=(1, 2))
    total = counts.sum()
    return float((counts * np.arange(len(counts))).sum() / total) if total else float("nan")
