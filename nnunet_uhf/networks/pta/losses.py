"""Losses of PTA as functions of one pass (authors' code and paper's summary); every function returns terms by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_uhf.networks.pta.hybrid_generator import PATCH
from nnunet_uhf.networks.pta.training import PTAOutput


@dataclass(frozen=True)
class PTAPreset:
    """The weights of the terms, and whether the judge of high-field images sees the image put right beside each.

    Attributes:
        weights: of the terms, by name.
        beside: a judge of two channels (`paper`), instead of one that judges images put right as further images.
    """

    weights: Mapping[str, float]
    beside: bool


_EXTENSIONS = {"gradient": 0.0}
PTA_PRESETS = {
    "code": PTAPreset(
        {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0, "synthesis": 0.0, "structure": 1.0, "foreground": 0.5}
        | {"judge": 0.5}
        | _EXTENSIONS,
        beside=False,
    ),
    "paper": PTAPreset(
        {"adversarial": 0.3, "cycle": 0.2, "identity": 0.0, "synthesis": 0.5, "structure": 0.0, "foreground": 0.5}
        | {"judge": 0.5}
        | _EXTENSIONS,
        beside=True,
    ),
}
"""As in the authors' code, whose losses ignore the order of the high-field slices; and as the paper is summarised.

`gradient` is an extension, off by default.
"""


@dataclass(frozen=True)
class JudgeLabels:
    """What judges are trained to say of real and of made images."""

    real: float = 1.0
    fake: float = 0.0


SMOOTHED = JudgeLabels(0.9, 0.1)
"""With the generator `hybrid` (authors' code)."""


def generator_losses(
    output: PTAOutput,
    *,
    weights: Mapping[str, float],
    labels: JudgeLabels = JudgeLabels(),
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The weighted terms of both generators; those of weight 0 are left out.

    Args:
        output: of one pass.
        weights: by name, as in :data:`PTA_PRESETS`.
        labels: of the judges.
        masks: where the body is, by domain, ``(B, 1, H, W)``; for generators that steer by it.
    """
    terms: dict[str, Tensor] = {}
    for name, score in output.scores.items():
        weight = weights["structure" if name == "structure" else "adversarial"]
        if weight and score.deceived is not None:
            terms[f"adversarial_{name}"] = weight * distance_to_label(score.deceived, labels.real)
    images = {
        "cycle_source": (output.cycle_source, output.source),
        "cycle_target": (output.cycle_target, output.target),
        "identity_source": (output.same_source, output.source),
        "identity_target": (output.same_target, output.target),
        "synthesis": (output.made_target, output.target),
    }
    for name, (image, wanted) in images.items():
        weight = weights[name.partition("_")[0]]
        if weight and image is not None:
            terms[name] = weight * F.l1_loss(image.float(), wanted)
    if weights["gradient"]:
        terms["gradient"] = weights["gradient"] * gradient_distance(output.made_target.float(), output.source)
    if weights["foreground"] and masks is not None:
        for domain, probability in output.foreground.items():
            wanted = token_mask(masks[domain], probability.shape[2:])
            terms[f"foreground_{domain}"] = weights["foreground"] * F.binary_cross_entropy(probability, wanted)
    return terms


def judge_losses(
    output: PTAOutput,
    *,
    weights: Mapping[str, float],
    labels: JudgeLabels = JudgeLabels(),
) -> dict[str, Tensor]:
    """The weighted terms of the judges: least squares of real and made images."""
    return {
        f"judge_{name}": weights["judge"]
        * (distance_to_label(score.real, labels.real) + distance_to_label(score.fake, labels.fake))
        for name, score in output.scores.items()
    }


def gradient_distance(image: Tensor, other: Tensor, *, edge: float = 0.05) -> Tensor:
    """1 - mean squared cosine of the gradients of two images ``(B, 1, H, W)``, weighted by their lengths (extension).

    Normalised gradient fields (Haber and Modersitzki 2006): edges have to lie where the other image has some, whatever
    the contrast on either side. Differences below ``edge`` count as flat.
    """
    one, two = _gradient(image), _gradient(other)
    lengths = [(gradient.square().sum(dim=1) + edge**2).sqrt() for gradient in (one, two)]
    cosine = (one * two).sum(dim=1) / (lengths[0] * lengths[1])
    weight = lengths[1] - edge
    return 1 - (weight * cosine.square()).sum() / weight.sum().clamp_min(1e-6)


def token_mask(mask: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Which tokens of 16x16 pixels show any of the body: ``(B, 1, H, W) -> (B, 1, *size)``, 0 or 1."""
    missing = [count * PATCH - pixels for count, pixels in zip(size, mask.shape[2:], strict=True)]
    return F.max_pool2d(F.pad(mask.float(), (0, missing[1], 0, missing[0])), PATCH)


def _gradient(image: Tensor) -> Tensor:
    """Differences ``(B, 2, H - 1, W - 1)`` to the next row and column."""
    corner = image[:, 0, :-1, :-1]
    return torch.stack([image[:, 0, 1:, :-1] - corner, image[:, 0, :-1, 1:] - corner], dim=1)


def distance_to_label(score: Tensor, label: float) -> Tensor:
    """Mean squared distance of scores to a label, in single precision at least."""
    wide = score.to(torch.promote_types(score.dtype, torch.float32))
    return (wide - label).square().mean()
