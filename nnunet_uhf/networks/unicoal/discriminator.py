"""The discriminator of Uni-COAL: sources and an image in, how real the image looks under its conditions out."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.networks.unicoal.layers import EqualConv, EqualLinear, filtered
from nnunet_uhf.networks.unicoal.mapping import Mapping
from nnunet_uhf.networks.unicoal.presets import DiscriminatorArguments

BLUR = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
SMALLEST = 4  # pixels along the last map


class ResidualBlock(nn.Module):
    """Two convolutions beside a 1×1 one, to half of the size; blurred before each stride (Karras et al. 2020)."""

    blur: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualConv(inputs, inputs, 3)
        self.second = EqualConv(inputs, outputs, 3)
        self.skip = EqualConv(inputs, outputs, 1, bias=False, activate=False)
        self.register_buffer("blur", torch.tensor(BLUR), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C', H/2, W/2)`."""
        short = self.skip(filtered(F.pad(x, (1, 1, 1, 1)), self.blur, stride=2))
        y = filtered(F.pad(self.first(x), (2, 2, 2, 2)), self.blur)
        y = self.second(y, stride=2, padding=0)
        return (y + short) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Slices of the sources and an image -> one logit, by projection on the conditions.

    Args:
        **arguments: those of :class:`nnunet_uhf.networks.unicoal.presets.DiscriminatorArguments`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = asked = DiscriminatorArguments(**arguments)
        widths = []
        pixels = asked.size
        while pixels >= SMALLEST:
            widths.append(min(asked.base_channels // pixels, asked.max_channels))
            pixels //= 2
        self.stride = 2 ** (len(widths) - 1)
        self.from_image = EqualConv(asked.in_channels, widths[0], 1)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in itertools.pairwise(widths)))
        self.conv = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.hidden = EqualLinear(widths[-1] * SMALLEST**2, widths[-1], activate=True)
        self.out = EqualLinear(widths[-1], widths[-1])
        self.mapping = Mapping(
            noise=0, code=asked.code, numbers=asked.numbers, embedding=asked.embedding, latent=widths[-1]
        )

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network."""
        return asdict(self.arguments)

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """`(B, in_channels, H, W)` and `(B, code + numbers)` -> logits `(B,)`.

        Images of other than the nominal size are averaged to the last map of it.
        """
        x = self.blocks(self.from_image(images))
        x = F.adaptive_avg_pool2d(x, SMALLEST)
        x = self.conv(torch.cat([x, _spread(x)], dim=1))
        x = self.out(self.hidden(x.flatten(1)))
        asked = self.mapping(condition)
        logits: Tensor = (x * asked).sum(dim=1) / math.sqrt(x.shape[1])
        return logits


def _spread(x: Tensor) -> Tensor:
    """Mean standard deviation over the batch, as a map `(B, 1, H, W)`: a batch that looks alike is told by it."""
    centred = x - x.mean(dim=0)
    deviation = (centred.square().mean(dim=0) + 1e-8).sqrt().mean()
    return deviation.expand(len(x), 1, *x.shape[2:])
