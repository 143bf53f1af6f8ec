"""PSNR and SSIM of batches of patches on their own device; for whole volumes see nnunet_uhf.evaluation.image_metrics.

The numbers are those of nnunet_uhf.evaluation.image_metrics (scikit-image), which would take longer than the
training step here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_uhf.evaluation.image_metrics import WINDOW


def patch_psnr(truth: Tensor, image: Tensor) -> Tensor:
    """PSNR in dB of each patch: `(B, 1, *S)` twice -> `(B,)`; the data range is that of the patch's truth."""
    error = (truth - image).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(data_range(truth).square() / error)


def patch_ssim(truth: Tensor, image: Tensor) -> Tensor:
    """Mean SSIM of each patch: `(B, 1, *S)` twice -> `(B,)`; uniform window, one voxel along axes thinner than it.

    Intensities are counted from the truth's smallest: around 0, where z-scores lie, the luminance term means nothing.
    """
    floor = truth.flatten(1).amin(dim=1).view(-1, *[1] * (truth.ndim - 1))
    truth, image = truth - floor, image - floor
    window = [WINDOW if size >= WINDOW else 1 for size in truth.shape[2:]]
    pool = F.avg_pool2d if truth.ndim == 4 else F.avg_pool3d

    def local_mean(values: Tensor) -> Tensor:
        return pool(values, window, stride=1)

    voxels = math.prod(window)
    unbiased = voxels / (voxels - 1)
    mean_t, mean_i = local_mean(truth), local_mean(image)
    var_t = unbiased * (local_mean(truth * truth) - mean_t * mean_t)
    var_i = unbiased * (local_mean(image * image) - mean_i * mean_i)
    covariance = unbiased * (local_mean(truth * image) - mean_t * mean_i)
    peak = data_range(truth).view(-1, *[1] * (truth.ndim - 1))
    c1, c2 = (0.01 * peak).square(), (0.03 * peak).square()  # Wang et al. 2004
    similarity = ((2 * mean_t * mean_i + c1) * (2 * covariance + c2)) / (
        (mean_t.square() + mean_i.square() + c1) * (var_t + var_i + c2)
    )
    return similarity.flatten(1).mean(dim=1)


def data_range(truth: Tensor) -> Tensor:
    """Maximum minus minimum of each patch: `(B, 1, *S)` -> `(B,)`."""
    return truth.flatten(1).amax(dim=1) - truth.flatten(1).amin(dim=1)
