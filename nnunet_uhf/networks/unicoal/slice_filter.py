"""The best linear estimate of a slice from four thick ones around it, under their profile (E11: ours).

Along the slice axis an anatomy is taken for a random one whose correlation falls exponentially, as it does in scans of
heads nearly. What the four slices see of it, and what the slice that is asked for would, is then known up to the scale,
and the best weights follow (Gaussian process regression). They undo some of the blur of the profile, which no spline
through the slices does; for thin slices they are those of a line between the two neighbours, nearly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from nnunet_uhf.networks.unicoal.question import SLICES, interpolation_weights

CORRELATION = 2.5
"""Length over the distance of slices; from 1 to 5 gains on scans of IXI differed by less than 0.02 dB."""
NOISE = 1e-3
"""Variance over that of the anatomy: more is not undone of what noise would drown."""
SMALLEST_RATIO = 1.25
"""Distance of slices over spacing of the target; below it a spline loses nothing."""
_FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
_THINNEST = 0.2
"""Full width in voxels of the target: a thinner profile would miss all of them."""
_RADIUS = 4.0
"""Of a profile, in standard deviations."""


def slice_filter(
    delta: float, present: Sequence[bool], *, distance_mm: float, thickness_mm: float, spacing_mm: float
) -> list[float]:
    """Weights of four slices in the slice at ``delta`` between the middle two; sum 1, 0 of a missing one.

    Args:
        delta: place between the second and the third slice, 0 to 1.
        present: which of the four there are.
        distance_mm: between slices.
        thickness_mm: of slices, full width at half maximum of their Gaussian profile.
        spacing_mm: between the slices of the target, as thick as their spacing.

    Raises:
        ValueError: none of the two slices around the place is there.
    """
    if not present[1] and not present[2]:
        raise ValueError("no slice is there beside the place")
    ratio = distance_mm / spacing_mm
    if ratio < SMALLEST_RATIO:
        return interpolation_weights(delta, present)
    # rounded for the cache alone: the slices of a volume ask for the same few places again and again
    return list(_weights(round(delta, 6), tuple(present), round(ratio, 6), round(thickness_mm / spacing_mm, 6)))


@lru_cache(maxsize=4096)
def _weights(delta: float, present: tuple[bool, ...], ratio: float, thickness: float) -> tuple[float, ...]:
    """Lengths in voxels of the target, counted from the one that is asked for."""
    there = [index for index in range(SLICES) if present[index]]
    places = np.array([(index - 1 - delta) * ratio for index in there])
    sigma = max(thickness, _THINNEST) / _FWHM_PER_SIGMA
    reach = math.ceil(np.abs(places).max() + max(_RADIUS * sigma, 1))
    voxels = np.arange(-reach, reach + 1)
    squares = (voxels - places[:, None]) ** 2
    # counted from the nearest voxel, which a profile between two sees in any case
    profile = np.exp(-0.5 * (squares - squares.min(axis=1, keepdims=True)) / sigma**2)
    profile /= profile.sum(axis=1, keepdims=True)
    correlation = np.exp(-np.abs(voxels[:, None] - voxels) / (CORRELATION * ratio))
    seen = profile @ correlation @ profile.T + NOISE * np.eye(len(there))
    found = np.linalg.solve(seen, profile @ correlation[:, reach])
    weights = np.zeros(SLICES)
    weights[there] = found / found.sum()
    return tuple(float(weight) for weight in weights)
