"""Standard intensity scale of one contrast by histogram landmarks (Nyul et al., IEEE Trans Med Imaging 19, 2000).

The landmarks and the scale are those of SIQT: percentiles 1, 10, 20, .. 90, 99, the outer ones at 1 and 100.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError

FloatArray = npt.NDArray[np.float32]
Landmarks = npt.NDArray[np.float64]
PERCENTILES = (1, *range(10, 100, 10), 99)
SCALE = (1.0, 100.0)


def landmarks_of(values: npt.NDArray[np.number]) -> Landmarks:
    """The percentiles `(11,)` of a scan's voxels `(N,)`, any unit.

    Raises:
        UHFError: no voxels, or percentiles that do not increase: many voxels of one value.
    """
    if values.size == 0:
        raise UHFError("there is no voxel to take a histogram of")
    landmarks = np.percentile(values.astype(np.float64), PERCENTILES)
    if not (np.diff(landmarks) > 0).all():
        raise UHFError(
            "too many voxels have the same intensity for a histogram: was the scan cut off or rounded, "
            "or is it not skull-stripped (--masks)?"
        )
    return landmarks


def learn_scale(landmarks: Iterable[Landmarks]) -> Landmarks:
    """The standard landmarks `(11,)`: the mean over scans, each brought to 1 .. 100 by its own outer landmarks."""
    low, high = SCALE
    rescaled = [low + (high - low) * (one - one[0]) / (one[-1] - one[0]) for one in landmarks]
    return np.asarray(np.mean(rescaled, axis=0), dtype=np.float64)


def to_scale(image: npt.NDArray[np.number], landmarks: Landmarks, scale: Landmarks) -> FloatArray:
    """The image, any shape, with its landmarks moved to the standard ones.

    Linear in between, and beyond the outer ones with the slope of the outermost part, so that bright vessels stay
    bright; monotone, so that the order of intensities stays.
    """
    values = np.asarray(image, dtype=np.float64)
    inner = np.interp(values, landmarks, scale)
    slopes = np.diff(scale) / np.diff(landmarks)
    below = scale[0] + slopes[0] * (values - landmarks[0])
    above = scale[-1] + slopes[-1] * (values - landmarks[-1])
    outer = np.where(values < landmarks[0], below, np.where(values > landmarks[-1], above, inner))
    return outer.astype(np.float32)
