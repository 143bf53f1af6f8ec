"""What can be said of a translated image without its truth, and what intensities alone explain (ours).

Volumes are ``(Z, Y, X)``, slices along the first axis. Compare each number with that of real high-field images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter
from skimage.registration import phase_cross_correlation
from sklearn.mixture import GaussianMixture

from nnunet_uhf.evaluation.image_metrics import WINDOW
from nnunet_uhf.types import Mask

TISSUES = 3
"""Classes of intensity in a brain: fluid, grey and white matter."""
_UPSAMPLING = 10
_MIXTURE_VOXELS = 20_000

Translated = NDArray[np.float64]


def mean_shift(image: ArrayLike, other: ArrayLike, mask: Mask) -> float:
    """Mean length in pixels by which slices of an image are moved against another one (phase correlation, to 0.1).

    Slices without a mask are left out.
    """
    one, two = np.asarray(image, dtype=np.float64), np.asarray(other, dtype=np.float64)
    lengths = []
    for moved, fixed, inside in zip(one, two, mask, strict=True):
        if inside.any() and np.ptp(moved[inside]) > 0 and np.ptp(fixed[inside]) > 0:
            centred = (np.where(inside, part - part[inside].mean(), 0.0) for part in (fixed, moved))
            shift = phase_cross_correlation(*centred, upsample_factor=_UPSAMPLING)[0]
            lengths.append(float(np.linalg.norm(shift)))
    return float(np.mean(lengths)) if lengths else float("nan")


def local_correlation(image: ArrayLike, other: ArrayLike, mask: Mask) -> float:
    """Mean size of the correlation in windows of 7x7 pixels, 0 to 1: structure that both show in whatever contrast."""
    one, two = (np.asarray(part, dtype=np.float64) for part in (image, other))
    size = (1, WINDOW, WINDOW)
    mean_one, mean_two = uniform_filter(one, size), uniform_filter(two, size)
    covariance = uniform_filter(one * two, size) - mean_one * mean_two
    variances = [
        np.maximum(uniform_filter(part * part, size) - mean * mean, 0)
        for part, mean in ((one, mean_one), (two, mean_two))
    ]
    spread = np.sqrt(variances[0] * variances[1])
    judged = mask & (spread > 1e-6 * spread.max(initial=0))
    return float(np.abs(covariance[judged] / spread[judged]).mean()) if judged.any() else float("nan")


def slice_roughness(image: ArrayLike, mask: Mask) -> float:
    """Mean difference of neighbouring slices where both are in the mask, in standard deviations of the masked image.

    A network of slices may make neighbours that do not fit each other; then it is larger than in real images.
    """
    volume = np.asarray(image, dtype=np.float64)
    both = mask[1:] & mask[:-1]
    deviation = volume[mask].std()
    return (
        float(np.abs(np.diff(volume, axis=0))[both].mean() / deviation)
        if both.any() and deviation > 0
        else float("nan")
    )


def tissue_contrast(image: ArrayLike, mask: Mask, *, seed: int = 0) -> float:
    """Distance of the two brighter classes of a mixture of three Gaussians over their mean deviation.

    In T1-weighted images these are grey and white matter.
    """
    values = np.asarray(image, dtype=np.float64)[mask]
    random = np.random.default_rng(seed)
    chosen = values if len(values) <= _MIXTURE_VOXELS else random.choice(values, _MIXTURE_VOXELS, replace=False)
    if len(chosen) < TISSUES or np.ptp(chosen) == 0:
        return float("nan")
    mixture = GaussianMixture(TISSUES, random_state=seed).fit(chosen[:, None])
    order = np.argsort(mixture.means_[:, 0])[-2:]
    means, deviations = mixture.means_[order, 0], np.sqrt(mixture.covariances_[order, 0, 0])
    return float((means[1] - means[0]) / deviations.mean())


def mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every number that all rows have and that is one."""
    names = [name for name in rows[0] if all(name in row for row in rows)] if rows else []
    means = {name: float(np.nanmean([row[name] for row in rows])) for name in names}
    return {name: value for name, value in means.items() if np.isfinite(value)}
