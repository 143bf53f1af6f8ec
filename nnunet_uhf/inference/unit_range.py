"""Intensities of a scan between -1 and 1, by its own percentiles, as Uni-COAL reads and writes them (ours after it)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.types import FloatArray

PERCENTILES = (0.5, 99.5)


class UnitRange(NamedTuple):
    """The intensities that become -1 and 1; others go on beyond."""

    low: float
    high: float

    def shifted(self, image: FloatArray, inside: NDArray[np.bool_] | None = None) -> FloatArray:
        """The image counted from the darkest, 0 to 2: what is outside of an image or a mask is 0 then, and stays so."""
        scaled = (np.asarray(image, dtype=np.float32) - self.low) * np.float32(2 / (self.high - self.low))
        return scaled if inside is None else np.where(inside, scaled, np.float32(0))

    def back(self, image: FloatArray) -> FloatArray:
        """From -1 to 1 back to the scan's intensities."""
        half = (self.high - self.low) / 2
        return np.asarray((image + 1) * np.float32(half) + np.float32(self.low), dtype=np.float32)


def unit_range(image: FloatArray, inside: NDArray[np.bool_] | None = None) -> UnitRange | None:
    """The range of a scan: percentiles 0.5 and 99.5 of what is inside; None of a constant one, which is missing."""
    values = image[inside] if inside is not None else image.ravel()
    if values.size == 0 or values.min() == values.max():
        return None
    low, high = np.percentile(values, PERCENTILES)
    if not high > low:  # almost constant: a few voxels stand out
        low, high = values.min(), values.max()
    return UnitRange(float(low), float(high))
