"""Multi-scale SSIM (Wang, Simoncelli and Bovik 2003) of 2D and 3D images, on the whole grid or inside a mask.

Every scale is scikit-image's SSIM with the Gaussian window of the paper (11 wide, sigma 1.5, K1 = 0.01, K2 = 0.03).
The libraries that have MS-SSIM ready-made know neither masks nor thin volumes; without them the numbers agree with
MONAI's (see the tests).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity

from nnunet_uhf.evaluation.image_metrics import Image, checked_mask, checked_pair, peak_of

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest scale first
GAUSSIAN_WINDOW = 11  # voxels; what scikit-image makes of sigma 1.5
SIGMA = 1.5
_WITHOUT_LUMINANCE = 1e8  # a K1 at which the luminance term of SSIM is 1, which leaves contrast and structure


def ms_ssim_scales(shape: Sequence[int]) -> int:
    """How many scales, 1 to 5, fit into an image of this shape: the window must fit into the coarsest.

    A volume with one axis too thin for two scales is compared slice by slice, so that axis does not count.
    ValueError when not even one scale fits.
    """
    smallest = min(size for axis, size in enumerate(shape) if axis != _thin_axis(shape))
    if smallest < GAUSSIAN_WINDOW:
        raise ValueError(
            f"MS-SSIM needs at least {GAUSSIAN_WINDOW} voxels along two axes, got images of shape {tuple(shape)}"
        )
    return min(len(WEIGHTS), int(np.log2(smallest // GAUSSIAN_WINDOW)) + 1)


def ms_ssim(
    reference: ArrayLike,
    image: ArrayLike,
    *,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    scales: int | None = None,
) -> float:
    """Multi-scale structural similarity, 0 to 1, of ``image`` (*S) against the truth ``reference`` (*S), 2D or 3D.

    With fewer than five ``scales`` (default: as many as fit) the paper's weights of the finest are divided by their
    sum; values of different numbers of scales do not compare. ``data_range`` is max - min of the whole truth unless
    given, at every scale. Without ``mask`` the mean of each scale leaves out the border of half a window; with
    ``mask`` (*S) it is weighted by the part of each coarse voxel that lies in the mask. A mean contrast below zero
    counts as zero. Raises ValueError on NaN, unequal shapes, a constant truth, an empty mask, or too many scales.
    """
    truth, predicted = checked_pair(reference, image)
    peak = peak_of(truth, data_range)
    weights = None if mask is None else checked_mask(mask, truth.shape).astype(np.float64)
    possible = ms_ssim_scales(truth.shape)
    count = possible if scales is None else scales
    if not 1 <= count <= possible:
        raise ValueError(f"an image of shape {truth.shape} allows 1 to {possible} scales of MS-SSIM, got {count}")
    thin = _thin_axis(truth.shape)
    truth, predicted = _stack(truth, thin), _stack(predicted, thin)
    weights = None if weights is None else _stack(weights, thin)
    similarity = 1.0
    exponents = np.array(WEIGHTS[:count]) / sum(WEIGHTS[:count])
    for scale, exponent in enumerate(exponents):
        last = scale == count - 1
        similarity *= max(_mean_similarity(truth, predicted, weights, peak, luminance=last), 0.0) ** exponent
        if not last:
            truth, predicted = _halved(truth), _halved(predicted)
            weights = None if weights is None else _halved(weights)
    return float(similarity)


def _mean_similarity(truth: Image, predicted: Image, weights: Image | None, peak: float, *, luminance: bool) -> float:
    """Mean SSIM of a stack (N, *S) at one scale, with its luminance term or without."""
    maps = np.stack(
        [
            structural_similarity(
                t,
                p,
                data_range=peak,
                gaussian_weights=True,
                sigma=SIGMA,
                use_sample_covariance=False,
                full=True,
                **({} if luminance else {"K1": _WITHOUT_LUMINANCE}),
            )[1]
            for t, p in zip(truth, predicted, strict=True)
        ]
    )
    if weights is not None:
        if not weights.any():
            raise ValueError("the mask lies in the last row alone, which the coarser scales of MS-SSIM leave out")
        return float(np.average(maps, weights=weights))
    border = slice(GAUSSIAN_WINDOW // 2, -(GAUSSIAN_WINDOW // 2))
    return float(maps[(slice(None), *[border] * (maps.ndim - 1))].mean())


def _stack(image: Image, thin: int | None) -> Image:
    """What is compared together, (N, *S): the slices along a thin axis, or the whole image alone."""
    return image[None] if thin is None else np.moveaxis(image, thin, 0)


def _halved(stack: Image) -> Image:
    """Means of 2^S neighbours of every image of a stack (N, *S); an odd last row is left out."""
    even = stack[(slice(None), *(slice(size // 2 * 2) for size in stack.shape[1:]))]
    return np.asarray(block_reduce(even, (1, *[2] * (stack.ndim - 1)), np.mean))


def _thin_axis(shape: Sequence[int]) -> int | None:
    """The thinnest axis of a volume when two scales do not fit along it."""
    axis = int(np.argmin(shape))
    return axis if len(shape) == 3 and shape[axis] < 2 * GAUSSIAN_WINDOW else None
