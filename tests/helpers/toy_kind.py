"""A kind of network that the package does not have: three levels, one or two images in. What a new method brings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_uhf.checks import DIM, Check, is_int
from nnunet_uhf.networks.blocks import convolution, crop, crop_levels, cumulative, pad_to_minimum, pointwise
from nnunet_uhf.networks.contract import Arguments, Decoder, EnhancementNet, Keeper, NetworkKind

LEVELS = 3


class ToyKeeper(Keeper):
    """Convolutions, the second and third of stride 2: ``(B, in_channels, *S) -> three maps``."""

    def __init__(self, *, dim: int, in_channels: int = 2, width: int = 4) -> None:
        super().__init__()
        self.dim, self.in_channels, self.width = dim, in_channels, width
        self.channels = channels_of(width)
        self.steps = ((1,) * dim, *((2,) * dim for _ in range(LEVELS - 1)))
        self.strides = cumulative(self.steps)
        widths = (in_channels, *self.channels)
        self.layers = nn.ModuleList([convolution(dim, widths[0], widths[1], 3)])
        self.layers.extend(convolution(dim, *pair, 2, stride=2, padding=0) for pair in pairwise(self.channels))

    def config(self) -> dict[str, Any]:
        return {"dim": self.dim, "in_channels": self.in_channels, "width": self.width}

    def features(self, source: Tensor) -> list[Tensor]:
        maps = []
        x = pad_to_minimum(source, self.steps)
        for layer in self.layers:
            x = torch.nn.functional.leaky_relu(layer(x), 0.2)
            maps.append(x)
        return maps

    def forward(self, source: Tensor) -> list[Tensor]:
        return crop_levels(self.features(source), source.shape[2:], self.steps)


class ToyDecoder(Decoder):
    """A 1x1 convolution of the finest map."""

    def __init__(self, *, dim: int, width: int = 4) -> None:
        super().__init__()
        self.dim, self.width = dim, width
        self.output = pointwise(dim, width, 1, bias=True)

    def config(self) -> dict[str, Any]:
        return {"dim": self.dim, "width": self.width}

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        return crop(self.output(maps[0]), size)


def channels_of(width: int) -> tuple[int, ...]:
    """Of the maps, finest first."""
    return tuple(width * 2**level for level in range(LEVELS))


def _enhancer(architecture: Arguments, decoder: Arguments) -> EnhancementNet:
    return EnhancementNet(ToyKeeper(**architecture), ToyDecoder(**decoder))


_WIDTH: Check = (lambda value: is_int(value, 1, 64), "1 to 64")

KIND = NetworkKind(
    name="toy_net",
    keeper=ToyKeeper,
    decoder=ToyDecoder,
    enhancer=_enhancer,
    arguments={"dim": DIM, "in_channels": (lambda value: is_int(value, 1, 2), "1 or 2"), "width": _WIDTH},
    decoder_arguments={"dim": DIM, "width": _WIDTH},
    channels=lambda architecture: channels_of(architecture["width"]),
    citation="nobody (2026)",
    trainers="ToyTrainer",
    sizes={ToyKeeper: frozenset({"width"})},
    no_guide=lambda architecture: "it is too narrow" if architecture["width"] == 1 else None,
)
