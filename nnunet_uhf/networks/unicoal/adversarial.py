"""All that a training of Uni-COAL computes, as one network: generator, its average, discriminator, prior (spec 3)."""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.networks.constant import with_constant_weights
from nnunet_uhf.networks.frozen import KeepsFrozen
from nnunet_uhf.networks.unicoal.discriminator import Discriminator
from nnunet_uhf.networks.unicoal.layers import filtered
from nnunet_uhf.networks.unicoal.network import UniCOAL
from nnunet_uhf.networks.unicoal.perceptual import SAMPrior
from nnunet_uhf.networks.unicoal.question import Question

R1 = 5.0  # of the squared gradient of the logits of true images
HALF_LIFE = 10_000  # images; of the average of the generator
YOUNG = 0.05  # of the images seen so far: a short training averages over its end, not over its start
BLURRED_IMAGES = 200_000
BLUR = 10.0  # pixels at the start: half of the weight
GRADIENT_LIMIT = 1e5


class AdversarialNet(KeepsFrozen):
    """One pass gives every term of every loss; in each the other player is constant.

    In evaluation the average is asked.

    Args:
        generator: learns.
        discriminator: learns; None without one.
        prior: the SAM prior; None without it.
    """

    frozen: ClassVar[tuple[str, ...]] = ("average",)
    seen: Tensor

    def __init__(self, generator: UniCOAL, discriminator: Discriminator | None, prior: SAMPrior | None = None) -> None:
        super().__init__()
        self.generator = generator
        self.average = copy.deepcopy(generator)
        self.discriminator = discriminator
        self.prior = prior
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.freeze()

    def forward(
        self, source: Tensor, target: Tensor, question: Question, neighbour: Question | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The terms of the losses, unweighted, and the image.

        Args:
            source: slices `(B, in_channels, H, W)`.
            target: the slice that was asked for, `(B, 1, H, W)`; with ``neighbour`` also the next one, `(B, 2, H, W)`.
            question: what is asked.
            neighbour: the same for the next slice of the target, whose difference to the first has a term of its own.

        Returns:
            `l1`, `sam` with a prior, `consistency` with a neighbour, and with a discriminator `adversarial` of the
            generator, `fake`, `real` and `r1` of the discriminator; the image `(B, 1, H, W)`.
        """
        first = target[:, :1]
        generator = self.generator if self.training else self.average
        image = generator(source, question)
        with torch.autocast(image.device.type, enabled=False):
            sigma = self.blur()
            seen_image, seen_target = blurred(image, sigma), blurred(first.float(), sigma)
            terms = {"l1": F.l1_loss(seen_image, seen_target)}
            if self.prior is not None:
                terms["sam"] = self.prior(seen_image, seen_target)
            if self.discriminator is not None:
                terms |= self._judged(source.float(), seen_image, seen_target, question.condition)
        if neighbour is not None:
            behind = generator(source, neighbour)
            terms["consistency"] = F.l1_loss(behind - image, (target[:, 1:] - first).float())
        return terms, image

    def _judged(self, source: Tensor, image: Tensor, target: Tensor, condition: Tensor) -> dict[str, Tensor]:
        discriminator = self.discriminator
        assert discriminator is not None
        fake = torch.cat([source, image], dim=1)
        real = torch.cat([source, target], dim=1).detach().requires_grad_(torch.is_grad_enabled())
        terms = {
            "adversarial": F.softplus(-with_constant_weights(discriminator, fake, condition)).mean(),
            "fake": F.softplus(discriminator(fake.detach(), condition)).mean(),
        }
        logits = discriminator(real, condition)
        terms["real"] = F.softplus(-logits).mean()
        terms["r1"] = logits.new_zeros(())
        if torch.is_grad_enabled():
            (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            terms["r1"] = R1 * gradient.square().sum(dim=(1, 2, 3)).mean()
        return terms

    def blur(self) -> float:
        """Width in pixels of the blur before all judges, which fades over the first 200,000 images."""
        return BLUR * max(0.0, 1 - int(self.seen) / BLURRED_IMAGES) if self.discriminator is not None else 0.0

    @torch.no_grad()
    def follow(self, images: int) -> None:
        """After a step of that many images: the average moves towards the generator."""
        self.seen += images
        half_life = min(HALF_LIFE, YOUNG * int(self.seen))
        kept = 0.5 ** (images / half_life)
        for mean, now in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(now, 1 - kept)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """`(B, C, H, W)` under weights 2^-(k/sigma)^2, k in pixels; unchanged below a tenth of a pixel."""
    if sigma < 0.1:
        return image
    radius = math.floor(3 * sigma)
    k = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    taps = torch.exp2(-((k / sigma) ** 2))
    # the edge is held: darkness behind it would say where the patch ends
    grown = F.pad(image, (radius,) * 4, mode="replicate")
    return filtered(grown, taps / taps.sum())


def finite_gradients(module: nn.Module) -> None:
    """Replace gradients that are no numbers, and limit the others to 1e5."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            torch.nan_to_num(parameter.grad, nan=0.0, posinf=GRADIENT_LIMIT, neginf=-GRADIENT_LIMIT, out=parameter.grad)
