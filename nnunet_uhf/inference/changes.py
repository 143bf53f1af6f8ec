"""How far an image is from its input beyond a change of intensities (ours; PTA, extension)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nnunet_uhf.types import FloatArray, Mask

QUANTILES = 512


def histogram_matched(image: ArrayLike, mask: Mask, reference: ArrayLike) -> FloatArray:
    """An image whose values in the mask are distributed as reference values, any number of them; order is kept.

    The strongest baseline that knows no structure: whoever translates should be better.
    """
    volume, values = np.asarray(image, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    steps = np.linspace(0, 1, QUANTILES)
    own, wanted = np.quantile(volume[mask], steps), np.quantile(values, steps)
    own, first = np.unique(own, return_index=True)
    matched = np.where(mask, np.interp(volume, own, wanted[first]), volume)
    return matched.astype(np.float32)


def change_map(made: FloatArray, scan: FloatArray) -> FloatArray:
    """|made - scan with the histogram of made|, in the intensities of ``made``; 0 where either of both is 0.

    No rising map of intensities shows in it, whatever its shape: what is left was sharpened, smoothed, moved, added or
    taken away, and a contrast that was turned round.

    Args:
        made: an image of a scan, on its grid.
        scan: the scan.
    """
    inside = (np.asarray(made) != 0) & (np.asarray(scan) != 0)
    if not inside.any():
        return np.zeros_like(made, dtype=np.float32)
    changed = np.abs(made - histogram_matched(scan, inside, made[inside]))
    return np.where(inside, changed, 0).astype(np.float32)
