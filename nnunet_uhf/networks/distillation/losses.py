"""Training losses of teacher, keeper and discriminator (arXiv 2402.08409), as functions of network outputs.

Every function returns its terms by name, so that a log can show them; the sum of the values is the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_uhf.networks.distillation.teacher import TeacherOutput
from nnunet_uhf.networks.distillation.training import DistillationOutput

Weights = Mapping[str, float]
"""Factors of a loss's terms by name; a term that is not named keeps the paper's."""

TEACHER_WEIGHTS: Weights = {"image": 100.0, "reconstruction": 1.0}
"""Of the terms of L_T (paper)."""

KEEPER_WEIGHTS: Weights = {"features": 1.0, "statistics": 1.0, "image": 100.0, "adversarial": 0.5}
"""Of the terms of L_K (paper)."""

DISCRIMINATOR_WEIGHTS: Weights = {"discriminator": 0.5}
"""Of the discriminator's loss (paper)."""

SEGMENTATION_TEACHER_WEIGHTS: Weights = {"segmentation": 1.0, "image": 1.0}
"""Of the terms of a teacher that segments: nnU-Net's Dice and cross-entropy, and the image (ours)."""

LABELLED_KEEPER_WEIGHTS: Weights = {"image": 1.0, "logits": 1.0}
"""Where a keeper of such a teacher differs from :data:`KEEPER_WEIGHTS`: structures come before the picture (ours)."""

TEMPERATURE = 2.0
"""By which logits are divided before they are compared (Hinton et al. 2015)."""


def feature_reconstruction_loss(
    features: Sequence[Tensor], reconstructed: Sequence[Tensor], *, detach_target: bool = False
) -> Tensor:
    """L_FR = sum over l = 1..4 of MSE(c_l, a_l).

    Args:
        features: the teacher's maps; the deepest has no reconstruction and is not used.
        reconstructed: one map per level but the deepest.
        detach_target: stop the gradient at c_l; the reference does not, which rewards features that are easy.
    """
    pairs = zip(features[:-1], reconstructed, strict=True)
    return torch.stack([F.mse_loss(a, c.detach() if detach_target else c) for c, a in pairs]).sum()


def explained_variance(feature: Tensor, reconstruction: Tensor) -> Tensor:
    """1 - var(c - a) / var(c) of one level, a number of at most 1; watches for trivially easy features."""
    return 1 - (feature - reconstruction).var() / feature.var().clamp_min(torch.finfo(feature.dtype).tiny)


def channel_statistics_loss(guide: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """L_dm: MSE of the standard deviations plus MSE of the means, both over the channels at each voxel.

    Args:
        guide: ``(B, C, *S)``, the keeper's map.
        target: ``(B, C, *S)``, the teacher's map.
        reduction: over the batch, ``mean`` (default) or ``sum`` (the reference).
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', got {reduction!r}")
    guide_mean, guide_deviation = _channel_statistics(guide)
    target_mean, target_deviation = _channel_statistics(target)
    loss = F.mse_loss(guide_deviation, target_deviation) + F.mse_loss(guide_mean, target_mean)
    return loss * guide.shape[0] if reduction == "sum" else loss


def _channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased standard deviation over the channels of ``(B, C, *S)``, each ``(B, *S)``."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # variances of half precision maps are too coarse
    variance, mean = torch.var_mean(x, dim=1, unbiased=False)
    # the square root has no finite slope at 0, where all channels agree
    return mean, torch.sqrt(variance + torch.finfo(x.dtype).tiny)


def teacher_loss(
    output: TeacherOutput, image: Tensor, *, detach_target: bool = False, weights: Weights = TEACHER_WEIGHTS
) -> dict[str, Tensor]:
    """L_T = 100 L1(y, y_hat) + L_FR, with other ``weights`` on request."""
    terms = {
        "image": F.l1_loss(output.image, image),
        "reconstruction": feature_reconstruction_loss(
            output.features, output.reconstructed, detach_target=detach_target
        ),
    }
    return _weighted(terms, {**TEACHER_WEIGHTS, **weights})


def segmentation_teacher_loss(
    image: Tensor, target: Tensor, segmentation: Tensor, *, weights: Weights = SEGMENTATION_TEACHER_WEIGHTS
) -> dict[str, Tensor]:
    """L1 of the image and the loss of the labels, which is nnU-Net's, with other ``weights`` on request."""
    terms = {"segmentation": segmentation, "image": F.l1_loss(image, target)}
    return _weighted(terms, {**SEGMENTATION_TEACHER_WEIGHTS, **weights})


def distillation_loss(
    output: DistillationOutput, target: Tensor, *, reduction: str = "mean", weights: Weights = KEEPER_WEIGHTS
) -> dict[str, Tensor]:
    """L_K = sum_l MSE(g_l, t_l) + sum_l L_dm(g_l, t_l) + 100 L1(T_dec(g), y) + 0.5 MSE(D(y_hat), 1).

    Other ``weights`` on request. The last term is left out when the output has no scores.
    """
    pairs = list(zip(output.guides, output.targets, strict=True))
    terms = {
        "features": torch.stack([F.mse_loss(g, t) for g, t in pairs]).sum(),
        "statistics": torch.stack([channel_statistics_loss(g, t, reduction=reduction) for g, t in pairs]).sum(),
        "image": F.l1_loss(output.image, target),
    }
    if output.generator_score is not None:
        terms["adversarial"] = _distance_to(output.generator_score, 1.0)
    if output.logits is not None and output.target_logits is not None:
        terms["logits"] = soft_label_loss(output.logits, output.target_logits)
    return _weighted(terms, {**LABELLED_KEEPER_WEIGHTS, **KEEPER_WEIGHTS, **weights})


def soft_label_loss(logits: Tensor, target: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """How far class probabilities are from those of another network, 0 where they agree (Hinton et al. 2015).

    The mean over batch and voxels, and over regions where there are some, of the Kullback-Leibler divergence; times the
    square of the temperature, so that gradients do not depend on it.

    Args:
        logits: ``(B, classes, *S)``, or of regions ``(B, 2, R, *S)``: probabilities are taken along the second axis.
        target: of that shape, constant.
        temperature: divides both logits.
    """
    ours, its = logits.float() / temperature, target.detach().float() / temperature
    divergence = F.kl_div(ours.log_softmax(dim=1), its.log_softmax(dim=1), reduction="none", log_target=True)
    return temperature**2 * divergence.sum(dim=1).mean()


def discriminator_loss(output: DistillationOutput, *, weights: Weights = DISCRIMINATOR_WEIGHTS) -> dict[str, Tensor]:
    """LSGAN: 0.5 [MSE(D(y), 1) + MSE(D(y_hat), 0)], another weight on request; empty without scores."""
    if output.real_score is None or output.fake_score is None:
        return {}
    judged = _distance_to(output.real_score, 1.0) + _distance_to(output.fake_score, 0.0)
    return _weighted({"discriminator": judged}, {**DISCRIMINATOR_WEIGHTS, **weights})


def _weighted(terms: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    return {name: weights[name] * term for name, term in terms.items()}


def _distance_to(score: Tensor, label: float) -> Tensor:
    """Mean squared distance of the scores to a label."""
    return F.mse_loss(score, torch.full_like(score, label))  # in float32 under autocast
