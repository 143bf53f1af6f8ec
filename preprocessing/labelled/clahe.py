"""Adaptive histogram equalisation with limited contrast, as the paper does with IBSR (arXiv 2402.08409)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.exposure import equalize_adapthist

from nnunet_uhf.types import FloatArray

PARTS = 5
"""The kernel is as long as a fifth of the image, along each axis (the paper's code)."""
CLIP_LIMIT = 0.2
"""The paper's code."""
RECORD = {"kernel": f"shape // {PARTS}", "clip_limit": CLIP_LIMIT, "outside": "voxels that were 0 stay 0"}


def equalised(image: NDArray[Any]) -> FloatArray:
    """An image (X, Y, Z) of any intensities, equalised to 0 .. 1; voxels that are 0 stay 0, which the paper's do not.

    nnU-Net looks for the head by what is not 0, so the brain's darkest voxels are kept above it (both ours).
    """
    values = np.asarray(image, dtype=np.float64)
    low, high = values.min(), values.max()
    if not high > low:
        return np.zeros(values.shape, dtype=np.float32)
    # scikit-image takes a last axis of 3 or 4 for colours
    longest = int(np.argmax(values.shape)) if values.shape[-1] in (3, 4) else -1
    turned = np.moveaxis((values - low) / (high - low), longest, -1)
    kernel = [max(1, size // PARTS) for size in turned.shape]
    made = np.moveaxis(equalize_adapthist(turned, kernel_size=kernel, clip_limit=CLIP_LIMIT), -1, longest)
    made = np.maximum(made, np.finfo(np.float32).eps)
    return np.where(values == 0, 0, made).astype(np.float32)
