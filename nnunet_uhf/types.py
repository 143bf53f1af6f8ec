"""Kinds of arrays, as every room names them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
"""An image or a part of one: intensities (*S), or (C, *S)."""
LabelArray = NDArray[np.integer]
"""A label map (*S)."""
Mask = NDArray[np.bool_]
"""Where something is (*S)."""
Affine = NDArray[np.float64]
"""Voxel indices to world coordinates in mm (4, 4), right, anterior, superior as nibabel has them."""
Spacing = tuple[float, float, float]
"""Voxel size in mm along three axes."""
