"""The weighted mean of several views' probabilities, where one view may not tell the sides of the body apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float32]


def mean_probabilities(
    probabilities: Iterable[NDArray[Any]],
    weights: Sequence[float],
    targets: Sequence[Sequence[tuple[int, ...]]],
) -> Probabilities:
    """Weighted mean of probabilities (C_view, *S) of several views; (C, *S) float32.

    ``targets`` gives the output channel of every channel of a view, as
    :func:`nnunet_uhf.planes.classes.match_classes` does; views that merge classes come last. What such a view gives a
    merged class is shared out among the classes it stands for, voxel by voxel, in proportion to the weighted mean of
    the views before it (equally where that is zero). So it adds its full weight to the structure and nothing to the
    choice of the side: among the merged classes the order is that of the other views, and probabilities that sum to
    one still do.

    Views of equal weight are summed and divided as in nnU-Net's ensembling, with the same result to the last bit.
    """
    scales = [weight / max(weights) for weight in weights]  # exactly 1 where equal
    count = 1 + max(index for group in targets[0] for index in group)
    total: Probabilities | None = None
    for values, scale, groups in zip(probabilities, scales, targets, strict=True):
        if total is None:
            total = np.zeros((count, *values.shape[1:]), np.float32)
        for channel, group in zip(np.asarray(values, np.float32), groups, strict=True):
            if len(group) == 1:
                total[group[0]] += scale * channel
            else:
                _share_out(total, scale * channel, list(group))
    if total is None:
        raise ValueError("no views")
    total /= sum(scales)
    return total


def _share_out(total: Probabilities, values: Probabilities, group: list[int]) -> None:
    """Add a merged class's values (*S) to the channels of its group, in proportion to what these hold; in place."""
    held = total[group]
    whole = held.sum(axis=0)
    for index, part in zip(group, held, strict=True):
        share = np.divide(part, whole, out=np.full_like(part, 1 / len(group)), where=whole > 0)
        total[index] += share * values
