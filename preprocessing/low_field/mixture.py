"""Tissue maps from the image itself: a mixture of three Gaussians in the brain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.simulator import TissueMeans
from nnunet_uhf.preprocessing.low_field.tissues import TISSUES, TissueMaps

# Darkest tissue first
T1W_BRIGHTNESS = ("csf", "gm", "wm")
# Voxels that the mixture is fitted to, drawn at random where there are more: the fit is of seven numbers (ours)
MAX_FIT_VOXELS = 50_000
# Fewer voxels than this are no brain (ours)
MIN_VOXELS = 200


def parse_brightness(text: str) -> tuple[str, str, str]:
    """Read "csf,gm,wm", darkest tissue first; UHFError for anything but the three tissues, once each."""
    names = tuple(part.strip().lower() for part in text.replace("<", ",").split(","))
    if sorted(names) != sorted(TISSUES):
        raise UHFError(f"brightness {text!r}: name csf, gm and wm, the darkest first, for example csf,gm,wm")
    return names  # type: ignore[return-value]  # three names, as just checked


def tissues_from_mixture(
    image: npt.NDArray[np.number],
    mask: npt.NDArray[np.bool_] | None = None,
    *,
    brightness: Sequence[str] = T1W_BRIGHTNESS,
    seed: int = 0,
) -> TissueMaps:
    """Posterior probabilities of three Gaussian classes, started from k-means and ordered by brightness.

    The classes share one variance, so that none reaches past its neighbour: the darkest voxel is of the darkest
    class, the brightest of the brightest. Neither place nor neighbours count; a bias field is not removed.

    Args:
        image: skull-stripped image, any shape.
        mask: brain, same shape; without one, the voxels that are not zero.
        brightness: tissues from the darkest to the brightest; of T1w `csf, gm, wm`, of T2w `wm, gm, csf`.
        seed: of k-means and of the draw of voxels that are fitted.

    Returns:
        Maps whose sum is 1 in the mask and 0 outside it.

    Raises:
        UHFError: no mask that singles out a brain, fewer than three intensities, or a fit that does not settle.
    """
    if sorted(brightness) != sorted(TISSUES):
        raise UHFError(f"brightness is {tuple(brightness)}: name csf, gm and wm, the darkest first")
    if mask is None:
        mask = image != 0
        if mask.all():
            raise UHFError("no voxel is zero, so that the brain is not known: give brain masks or skull-strip the scan")
    elif mask.shape != image.shape:
        raise UHFError(f"image has shape {image.shape}, the brain mask {mask.shape}: bring them to one grid")
    values = image[mask].astype(np.float64)
    if values.size < MIN_VOXELS:
        raise UHFError(f"the brain has {values.size} voxels, too few for a mixture of tissues: check the brain mask")
    mean, spread = values.mean(), values.std()
    if np.unique(values).size < len(TISSUES):
        raise UHFError("the brain has fewer than three intensities: give the scan itself, not a mask or a label map")
    values = ((values - mean) / spread)[:, None]
    rng = np.random.default_rng(seed)
    sample = values if len(values) <= MAX_FIT_VOXELS else rng.choice(values, MAX_FIT_VOXELS, replace=False)
    mixture = _fit(sample, seed)
    posterior = mixture.predict_proba(values)
    maps: dict[str, npt.NDArray[np.float32]] = {}
    for tissue, component in zip(brightness, np.argsort(mixture.means_[:, 0]), strict=True):
        maps[tissue] = np.zeros(image.shape, np.float32)
        maps[tissue][mask] = posterior[:, component]
    return TissueMaps(**maps)


def mixture_means(image: npt.NDArray[np.number], tissues: TissueMaps) -> TissueMeans:
    """Mean intensity of grey and white matter, every voxel weighted by its posterior probability.

    Voxels of P > 0.9, which the simulator otherwise takes, are chosen by the very intensities that are averaged: on
    two T1w scans at 3 T white matter came out 16 % and 10 % above its mean by label maps, weighted 3 % and 0 %.

    Raises:
        UHFError: a mean that is not positive.
    """
    grey, white = (float(np.average(image, weights=weights)) for weights in (tissues.gm, tissues.wm))
    if not min(grey, white) > 0:
        raise UHFError(
            f"mean grey and white matter intensities are {grey:.3g} and {white:.3g}: "
            "the simulator needs raw intensities, not z-scores"
        )
    return TissueMeans(gm=grey, wm=white)


def _fit(sample: npt.NDArray[np.float64], seed: int) -> Any:
    """Mixture started at the k-means centres."""
    # scikit-learn is slow to import, and most who simulate have label maps
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    centres = np.sort(KMeans(3, n_init=3, random_state=seed).fit(sample).cluster_centers_, axis=0)
    mixture = GaussianMixture(3, covariance_type="tied", means_init=centres, random_state=seed, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return mixture.fit(sample)
        except ConvergenceWarning as error:
            raise UHFError("the three tissues cannot be told apart: check the brain mask or give label maps") from error
