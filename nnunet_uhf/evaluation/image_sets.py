"""Sets of volumes as sets of slices of one size and range, and what one set is from another (ours; PTA, section 4).

Everything is of whole slices of one plane, brought to 0 to 1 by percentiles; outside the mask they are 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_uhf.evaluation.distributions import (
    frechet_distance,
    inception_score,
    kernel_distance,
    ms_ssim_diversity,
)
from nnunet_uhf.evaluation.feature_network import Described, FeatureNetwork
from nnunet_uhf.evaluation.multiscale import GAUSSIAN_WINDOW
from nnunet_uhf.types import FloatArray, Mask

FLOOR = "floor"
"""The set's name under which two halves of the real set are held against each other."""
SHARE = 0.2
"""Of the largest cross-section of a volume, which a slice must have to count: a few voxels show no anatomy."""
_FEWEST = 2  # slices of a set: one has no covariance


@dataclass(frozen=True)
class CaseSlices:
    """The slices `(N, H, W)` of a volume from 0 to 1, and how a feature network describes them."""

    slices: FloatArray
    described: Described | None


def unit_slices(
    volume: FloatArray, mask: Mask, scores: Sequence[float], *, side: Sequence[int] | int | None = None
) -> FloatArray:
    """The large slices `(N, h, w)` of a volume `(Z, Y, X)` from 0 to 1, around the centre of its mask, 0 outside it.

    Args:
        volume: image.
        mask: what is compared.
        scores: the values that become 0 and 1; what lies beyond is cut.
        side: pixels of a slice, one number or one an axis; by default the box of the mask, made square.
    """
    areas = mask.sum(axis=(1, 2))
    chosen = np.flatnonzero(areas >= max(1, SHARE * areas.max()))
    low, high = scores
    unit = np.where(mask, np.clip((np.asarray(volume, np.float32) - low) / (high - low), 0, 1), 0)[chosen]
    spans = _spans(mask)
    sizes = [max(box_sides(mask))] * 2 if side is None else list(np.broadcast_to(side, 2))
    for axis, (span, size) in enumerate(zip(spans, sizes, strict=True), start=1):
        first = int(span[0] + span[-1] + 1) // 2 - int(size) // 2
        before, after = max(0, -first), max(0, first + int(size) - unit.shape[axis])
        widths = [(0, 0)] * 3
        widths[axis] = (before, after)
        unit = np.take(np.pad(unit, widths), range(first + before, first + before + int(size)), axis=axis)
    return unit.astype(np.float32)


def box_sides(mask: Mask) -> tuple[int, int]:
    """Pixels of the box around a mask `(Z, Y, X)` within its slices."""
    rows, columns = (int(span[-1] - span[0] + 1) for span in _spans(mask))
    return rows, columns


def case_slices(
    volume: FloatArray,
    mask: Mask,
    scores: Sequence[float],
    *,
    side: Sequence[int] | int,
    network: FeatureNetwork | None,
) -> CaseSlices:
    """:func:`unit_slices` of a volume, described by a network where there is one."""
    slices = unit_slices(volume, mask, scores, side=side)
    return CaseSlices(slices, None if network is None else network.describe(slices))


def set_metrics(
    sets: Mapping[str, Sequence[CaseSlices]], *, real: str, network: str | None
) -> dict[str, dict[str, float]]:
    """All numbers by the name of the set: of each alone, and against the real one.

    `fd_NETWORK`, `kid_NETWORK` (smaller is nearer to the real set), `is_NETWORK` and `ms_ssim_diversity`. The row
    `floor` has the distances of two halves of the real set, of other subjects each: no set can be expected below.

    Args:
        sets: the cases of each; none is empty.
        real: name of the real one.
        network: that described all of them; None without one: then there are no distances.
    """
    result: dict[str, dict[str, float]] = {}
    whole = {name: _together(parts) for name, parts in sets.items()}
    for name, parts in sets.items():
        numbers = {}
        slices = [one for part in parts for one in part.slices]
        if len(slices) >= _FEWEST and min(slices[0].shape) >= GAUSSIAN_WINDOW:
            numbers["ms_ssim_diversity"] = ms_ssim_diversity(slices)
        described, truth = whole[name], whole[real]
        if network is not None and described is not None and truth is not None:
            if name != real:
                numbers |= _distances(truth, described, network)
            if described.scores is not None:
                numbers[f"is_{network}"] = inception_score(described.scores)
        result[name] = numbers
    halves = [_together(sets[real][first::2]) for first in (0, 1)]
    if network is not None and halves[0] is not None and halves[1] is not None:
        result[FLOOR] = _distances(halves[0], halves[1], network)
    return result


def _spans(mask: Mask) -> list[np.ndarray]:
    return [np.flatnonzero(mask.any(axis=axes)) for axes in ((0, 2), (0, 1))]


def _together(parts: Sequence[CaseSlices]) -> Described | None:
    described = [part.described for part in parts if part.described is not None]
    if not described:
        return None
    scores = [part.scores for part in described if part.scores is not None]
    features = np.concatenate([part.features for part in described])
    return Described(features, np.concatenate(scores) if scores else None)


def _distances(real: Described, made: Described, network: str) -> dict[str, float]:
    if min(len(real.features), len(made.features)) < _FEWEST:
        return {}
    return {
        f"fd_{network}": frechet_distance(real.features, made.features),
        f"kid_{network}": kernel_distance(real.features, made.features),
    }
