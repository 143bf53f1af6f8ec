"""Grey matter that is as bright as white takes part in white matter's contrast (ours).

Three tissues know one kind of grey. In a T1-weighted scan thalamus and pallidum hold so much myelin that they are
nearly as bright as white matter; a simulator that darkens white matter and leaves grey alone makes them the brightest
tissue of all. So a voxel of grey matter is divided between grey and white by its own intensity, compared with the white
matter around it: a bias field of the coil, which brightens the middle of the head, is then no myelin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from nnunet_uhf.preprocessing.low_field.tissues import TissueMaps
from nnunet_uhf.types import FloatArray

REACH_MM = 15.0
"""Sigma of the Gaussian over which white matter is averaged, the length on which a bias field changes."""
GRAIN_MM = 2.0
"""Sigma of the Gaussian over grey matter: noise is no myelin."""
CORTEX = 0.5
"""On the way from typical grey (0) to white (1): what is nearer to grey is grey, as bright cortex is."""
PURE = 0.9
LEAST = 1e-3


def mixed_by_intensity(image: FloatArray, tissues: TissueMaps, spacing_mm: Sequence[float]) -> TissueMaps:
    """Tissue maps in which grey matter belongs to white as far as it looks like it.

    Args:
        image: skull-stripped scan (*S), raw intensities.
        tissues: its tissue maps.
        spacing_mm: voxel size along the axes of the array.

    Returns:
        Maps with the same total. Without contrast between pure grey and white matter they are as they were.
    """
    values = np.asarray(image, dtype=np.float32)
    white = local_mean(values, tissues.wm * (tissues.wm > PURE), REACH_MM, spacing_mm)
    grey = local_mean(values, tissues.gm, GRAIN_MM, spacing_mm)
    relative = np.divide(grey, white, out=np.zeros_like(grey), where=white > 0)
    pure = (tissues.gm > PURE) & (white > 0)
    if not pure.any():
        return tissues
    typical = float(np.median(relative[pure]))  # of cortex, which is most of it
    if abs(1 - typical) < LEAST:
        return tissues
    likeness = (relative - typical) / (1 - typical)
    part: FloatArray = (np.clip((likeness - CORTEX) / (1 - CORTEX), 0, 1) * (white > 0) * tissues.gm).astype(np.float32)
    return TissueMaps(csf=tissues.csf, gm=tissues.gm - part, wm=tissues.wm + part)


def local_mean(values: FloatArray, weights: FloatArray, sigma_mm: float, spacing_mm: Sequence[float]) -> FloatArray:
    """Weighted mean of the neighbourhood, 0 where nothing is near."""
    sigma = [sigma_mm / step for step in spacing_mm]
    total = ndimage.gaussian_filter(weights.astype(np.float32), sigma)
    summed = ndimage.gaussian_filter(values * weights, sigma)
    return np.divide(summed, total, out=np.zeros_like(summed), where=total > LEAST)
