"""How far two sets of slices are from each other: Frechet and kernel distance, inception score, diversity (section 4).

Numbers of features of any network: only those of one network compare with each other, and with what two halves of the
real images give (the floor). They judge sets. That an image is right, none of them says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from nnunet_uhf.evaluation.multiscale import ms_ssim
from nnunet_uhf.types import FloatArray

_Wide = NDArray[np.float64]
PAIRS = 100


def frechet_distance(real: FloatArray, made: FloatArray) -> float:
    """Frechet distance of normal distributions with the moments of features `(N, F)` and `(M, F)`; 0 for equal sets.

    The trace of the root of the covariances' product is the sum of the singular values of the centred features'
    product: exact for fewer slices than features, too, where that root is hard to compute.
    """
    means = [np.asarray(part, np.float64).mean(axis=0) for part in (real, made)]
    parts = [(part - mean) / np.sqrt(len(part) - 1) for part, mean in zip((real, made), means, strict=True)]
    spread = sum(float(np.square(part).sum()) for part in parts)
    parts = [np.linalg.qr(part, mode="r") if len(part) > part.shape[1] else part for part in parts]  # same covariance
    root = np.linalg.svd(parts[0] @ parts[1].T, compute_uv=False).sum()
    return float(np.square(means[0] - means[1]).sum() + spread - 2 * root)


def kernel_distance(real: FloatArray, made: FloatArray) -> float:
    """Squared maximum mean discrepancy of features `(N, F)` and `(M, F)`, kernel (x y / F + 1)^3: KID.

    The unbiased estimate of all slices at once, in place of a mean over random subsets: about 0 for equal
    distributions, also below.
    """
    one, two = (np.asarray(part, np.float64) for part in (real, made))

    def kernel(left: _Wide, right: _Wide) -> _Wide:
        return np.asarray((left @ right.T / one.shape[1] + 1) ** 3)

    within = []
    for part in (one, two):
        values = kernel(part, part)
        within.append((values.sum() - np.trace(values)) / (len(part) * (len(part) - 1)))
    return float(within[0] + within[1] - 2 * kernel(one, two).mean())


def inception_score(scores: FloatArray) -> float:
    """Exp of the mean divergence of class probabilities from their mean, 1 to K, of scores `(N, K)`; of all at once."""
    logged = log_softmax(np.asarray(scores, np.float64), axis=1)
    mean = np.log(np.exp(logged).mean(axis=0))
    return float(np.exp((np.exp(logged) * (logged - mean)).sum(axis=1).mean()))


def ms_ssim_diversity(slices: Sequence[FloatArray], *, pairs: int = PAIRS, seed: int = 0) -> float:
    """Mean MS-SSIM of pairs of slices of one set, 0 to 1: the larger, the more alike they are, whoever they show.

    It says nothing of any truth: :func:`nnunet_uhf.evaluation.multiscale.ms_ssim` is that number.

    Args:
        slices: `(H, W)` each, of one size, from 0 to 1.
        pairs: how many, drawn by the seed; each of two different slices.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    drawn = [random.choice(len(slices), 2, replace=False) for _ in range(pairs)]
    values = [ms_ssim(slices[int(one)], slices[int(other)], data_range=1.0) for one, other in drawn]
    return float(np.mean(values))
