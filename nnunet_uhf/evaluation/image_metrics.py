"""Image quality of a predicted image against the true one: PSNR, SSIM, NRMSE, MAE, and the best linear intensity fit.

Shapes: ``*S`` is 2D or 3D, without batch and channel axes. Everything is computed in float64.
SSIM is that of Wang et al. 2004 as implemented in scikit-image (uniform window of 7, K1 = 0.01, K2 = 0.03).
MS-SSIM: nnunet_uhf.evaluation.multiscale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.metrics import normalized_root_mse, structural_similarity

from nnunet_uhf.types import Mask

WINDOW = 7  # voxels; the default of scikit-image, stated because SSIM depends on it

Image = NDArray[np.float64]


def psnr(
    reference: ArrayLike, image: ArrayLike, *, data_range: float | None = None, mask: ArrayLike | None = None
) -> float:
    """Peak signal-to-noise ratio in dB of ``image`` (*S) against the truth ``reference`` (*S).

    ``data_range`` is max - min of the whole truth unless given, also when ``mask`` (*S) restricts the squared
    error, so that values inside and outside a mask compare. Equal images give infinity.
    Raises ValueError on NaN, unequal shapes, a constant truth or an empty mask.

    Examples:
        >>> import numpy as np
        >>> from nnunet_uhf import psnr
        >>> truth = np.linspace(0, 100, 64).reshape(8, 8)
        >>> round(psnr(truth, truth + 1), 2)  # an error of 1 % of the range
        40.0
    """
    truth, predicted = checked_pair(reference, image)
    peak = peak_of(truth, data_range)
    squared = (truth - predicted) ** 2
    error = float(squared.mean() if mask is None else squared[checked_mask(mask, truth.shape)].mean())
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def ssim(
    reference: ArrayLike, image: ArrayLike, *, data_range: float | None = None, mask: ArrayLike | None = None
) -> float:
    """Structural similarity, -1 to 1, of ``image`` (*S) against the truth ``reference`` (*S), 2D or 3D.

    ``data_range`` as in :func:`psnr`. Without a mask: mean of the SSIM map less its border of half a window,
    as in scikit-image; with ``mask`` (*S): mean of the map inside the mask. A volume with one axis
    thinner than the window is compared slice by slice along that axis. Raises ValueError on NaN, unequal
    shapes, a constant truth, an empty mask, or an image smaller than the window in more than that.

    Examples:
        >>> import numpy as np
        >>> from nnunet_uhf import ssim
        >>> truth = np.random.default_rng(0).uniform(0, 100, (32, 32))
        >>> round(ssim(truth, truth), 3), ssim(truth, truth[::-1]) < 0.1
        (1.0, True)
    """
    truth, predicted = checked_pair(reference, image)
    peak = peak_of(truth, data_range)
    inside = None if mask is None else checked_mask(mask, truth.shape)
    similarity, whole = _ssim_map(truth, predicted, peak)
    return float(similarity[whole if inside is None else inside].mean())


def nrmse(reference: ArrayLike, image: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """Norm of the error of ``image`` (*S) divided by the norm of the truth ``reference`` (*S), both in ``mask``.

    The Euclidean normalisation of scikit-image, 0 is perfect; its square is the NMSE of MRI reconstruction.
    Raises ValueError on NaN, unequal shapes, an empty mask, a truth that is zero wherever it is compared.
    """
    truth, predicted = _inside(reference, image, mask)
    if not truth.any():
        raise ValueError(f"the reference is zero in all {truth.size} voxels compared: NRMSE is not defined")
    return float(normalized_root_mse(truth, predicted, normalization="euclidean"))


def mae(reference: ArrayLike, image: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """Mean absolute error of ``image`` (*S) against the truth ``reference`` (*S) in ``mask``, in the truth's units.

    Raises ValueError on NaN, unequal shapes, an empty mask.
    """
    truth, predicted = _inside(reference, image, mask)
    return float(np.abs(truth - predicted).mean())


def linear_coefficients(reference: ArrayLike, image: ArrayLike, mask: ArrayLike | None = None) -> tuple[float, float]:
    """The (a, b) that minimise ||a * image + b - reference|| over ``mask`` (everywhere without one).

    A constant image gives a = 0 and b = mean of the truth.
    Raises ValueError on NaN, unequal shapes, an empty mask.
    """
    truth, predicted = _inside(reference, image, mask)
    centred = predicted - predicted.mean()
    variance = float((centred**2).mean())
    a = float((centred * (truth - truth.mean())).mean() / variance) if variance > 0 else 0.0
    return a, float(truth.mean() - a * predicted.mean())


def linear_fit(reference: ArrayLike, image: ArrayLike, mask: ArrayLike | None = None) -> Image:
    """``a * image + b`` (*S) with the least-squares a and b found inside ``mask`` and applied everywhere.

    A fair intensity scale for an image that was never meant to have the truth's, such as the low-field input.
    """
    a, b = linear_coefficients(reference, image, mask)
    return a * np.asarray(image, dtype=np.float64) + b


def image_quality(reference: ArrayLike, image: ArrayLike, brain_mask: ArrayLike) -> dict[str, float]:
    """``{"psnr", "ssim", "psnr_brain", "ssim_brain"}`` of ``image`` (*S): on the whole grid, in the mask."""
    truth, predicted = checked_pair(reference, image)
    inside = checked_mask(brain_mask, truth.shape)
    similarity, whole = _ssim_map(truth, predicted, peak_of(truth, None))  # once for both: it takes the longest
    return {
        "psnr": psnr(truth, predicted),
        "ssim": float(similarity[whole].mean()),
        "psnr_brain": psnr(truth, predicted, mask=inside),
        "ssim_brain": float(similarity[inside].mean()),
    }


def fitted_quality(reference: ArrayLike, image: ArrayLike, brain_mask: ArrayLike) -> dict[str, float]:
    """:func:`image_quality` of (*S) after :func:`linear_fit`: of the whole for the whole, of the brain for the brain.

    Raises:
        ValueError: as :func:`image_quality`.
    """
    whole = image_quality(reference, linear_fit(reference, image), brain_mask)
    inside = image_quality(reference, linear_fit(reference, image, brain_mask), brain_mask)
    return {name: (inside if name.endswith("_brain") else whole)[name] for name in whole}


def _ssim_map(truth: Image, predicted: Image, peak: float) -> tuple[Image, tuple[slice, ...]]:
    """SSIM of every voxel (*S), and the part of it that is not border, as slices."""
    thin = [axis for axis, size in enumerate(truth.shape) if size < WINDOW]
    if len(thin) > truth.ndim - 2:
        raise ValueError(f"SSIM needs at least {WINDOW} voxels along two axes, got images of shape {truth.shape}")
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    whole = tuple(slice(None) if axis in thin else inner for axis in range(truth.ndim))
    if not thin:
        return _similarity(truth, predicted, peak), whole
    pairs = zip(*(np.moveaxis(a, thin[0], 0) for a in (truth, predicted)), strict=True)
    return np.stack([_similarity(t, p, peak) for t, p in pairs], axis=thin[0]), whole


def _similarity(truth: Image, predicted: Image, peak: float) -> Image:
    _, similarity = structural_similarity(truth, predicted, win_size=WINDOW, data_range=peak, full=True)
    return similarity


def _inside(reference: ArrayLike, image: ArrayLike, mask: ArrayLike | None) -> tuple[Image, Image]:
    """Both images as float64, or their voxels (N,) inside the mask."""
    truth, predicted = checked_pair(reference, image)
    if mask is None:
        return truth, predicted
    inside = checked_mask(mask, truth.shape)
    return truth[inside], predicted[inside]


def checked_pair(reference: ArrayLike, image: ArrayLike) -> tuple[Image, Image]:
    """Both images (*S) as float64; ValueError unless they are 2D or 3D, of one shape and finite."""
    truth, predicted = np.asarray(reference, dtype=np.float64), np.asarray(image, dtype=np.float64)
    if truth.shape != predicted.shape:
        raise ValueError(f"reference and image differ in shape: {truth.shape} and {predicted.shape}")
    if truth.ndim not in (2, 3):
        raise ValueError(f"images must be 2D or 3D without batch and channel axes, got shape {truth.shape}")
    for name, values in (("reference", truth), ("image", predicted)):
        if not np.isfinite(values).all():
            raise ValueError(f"the {name} of shape {values.shape} holds NaN or infinite values")
    return truth, predicted


def checked_mask(mask: ArrayLike, shape: tuple[int, ...]) -> Mask:
    """The mask (*S) as booleans; ValueError when it has another shape or is empty."""
    inside = np.asarray(mask).astype(bool)
    if inside.shape != shape:
        raise ValueError(f"mask and image differ in shape: {inside.shape} and {shape}")
    if not inside.any():
        raise ValueError(f"the mask of shape {shape} is empty")
    return inside


def peak_of(truth: Image, data_range: float | None) -> float:
    """The data range given, else max - min of the truth (*S); ValueError unless it is above 0."""
    peak = float(truth.max() - truth.min()) if data_range is None else float(data_range)
    if not peak > 0:
        raise ValueError(
            f"the reference of shape {truth.shape} is constant: PSNR and SSIM need a data range above 0"
            if data_range is None
            else f"data_range must be above 0, got {data_range}"
        )
    return peak
