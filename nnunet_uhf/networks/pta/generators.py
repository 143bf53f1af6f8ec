"""Generators of PTA as keeper (all but the last layers) and head: `resnet`, `unet`; `hybrid` is beside (CycleGAN, PTA).

They work on intensities from -1 to 1; :class:`TanhHead` brings them back to the z-scores of the domain it makes, and a
trunk brings the z-scores of its own domain there. So whoever calls one sees z-scores alone (ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.networks.contract import Decoder, Keeper

INIT_STD = 0.02


def initialise_normal(module: nn.Module) -> None:
    """N(0, 0.02) for weights of convolutions and linear layers below ``module``, 0 for their biases (CycleGAN)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, std=INIT_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def to_unit(image: Tensor, scores: Sequence[float]) -> Tensor:
    """z-scores between two bounds as -1 to 1; what lies beyond is cut, for no generator can make it."""
    low, high = scores
    return ((image - low) * (2 / (high - low)) - 1).clamp(-1, 1)


def from_unit(unit: Tensor, scores: Sequence[float]) -> Tensor:
    """-1 to 1 as z-scores between two bounds."""
    low, high = scores
    return (unit + 1) * ((high - low) / 2) + low


class Trunk(Keeper):
    """All of a generator but its last layers: ``(B, C, H, W)`` z-scores -> one map.

    Attributes:
        in_channels: 1, or an odd number of neighbouring slices, of which the middle one is translated.
        source_range: z-scores of the input that become -1 and 1.
    """

    kind: str
    features_out: int
    """Channels of the map."""

    def __init__(self, *, dim: int, in_channels: int, source_range: Sequence[float]) -> None:
        super().__init__()
        if dim != 2:
            raise ValueError(f"dim must be 2, got {dim}: these generators translate slices")
        if in_channels % 2 == 0:
            raise ValueError(f"in_channels must be odd, one slice and as many on either side, got {in_channels}")
        low, high = source_range
        if not low < high:
            raise ValueError(f"source_range must be two rising numbers, got {list(source_range)}")
        self.dim, self.in_channels, self.source_range = dim, in_channels, (float(low), float(high))

    def features(self, source: Tensor) -> list[Tensor]:
        """The map, which may cover padding beyond the image."""
        return [self.translated(to_unit(source, self.source_range))]

    def forward(self, source: Tensor) -> list[Tensor]:
        """The map as large as the image."""
        height, width = (max(1, size // self.strides[0][0]) for size in source.shape[2:])
        return [self.features(source)[0][..., :height, :width]]

    def translated(self, unit: Tensor) -> Tensor:
        """The map of an image ``(B, C, H, W)`` of intensities from -1 to 1."""
        raise NotImplementedError


class TanhHead(Decoder):
    """The last layers: the map of a trunk -> tanh -> z-scores of the target, which cannot leave its range."""

    def __init__(self, *, generator: str, features: int, target_range: Sequence[float], dim: int = 2) -> None:
        super().__init__()
        if dim != 2:
            raise ValueError(f"dim must be 2, got {dim}: these generators translate slices")
        low, high = target_range
        if not low < high:
            raise ValueError(f"target_range must be two rising numbers, got {list(target_range)}")
        self.generator, self.features, self.target_range = generator, features, (float(low), float(high))
        layers: list[nn.Module]
        if generator == "unet":
            layers = [nn.ReLU(), nn.ConvTranspose2d(features, 1, 4, stride=2, padding=1)]
        else:
            layers = [nn.Conv2d(features, 1, 7, padding=3, padding_mode="reflect")]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        initialise_normal(self)

    def forward(self, maps: list[Tensor], size: Sequence[int]) -> Tensor:
        """``(B, 1, H, W)`` of the given size, in z-scores of the target."""
        return from_unit(self.unit(maps[0], size).float(), self.target_range)

    def unit(self, translated: Tensor, size: Sequence[int]) -> Tensor:
        """The same from -1 to 1."""
        image: Tensor = self.layers(translated)[..., : size[0], : size[1]]
        return image

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this module, ready for JSON."""
        return {
            "dim": 2,
            "generator": self.generator,
            "features": self.features,
            "target_range": list(self.target_range),
        }


class ResnetTrunk(Trunk):
    """CycleGAN's generator: two halvings, residual blocks, two doublings (11,365,633 parameters with its head)."""

    kind = "resnet"
    SMALLEST = 16
    """Pixels of a side, for the reflecting borders at a quarter of the resolution; smaller images are padded."""

    def __init__(
        self,
        *,
        dim: int = 2,
        in_channels: int = 1,
        features: int = 64,
        blocks: int = 9,
        source_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(dim=dim, in_channels=in_channels, source_range=source_range)
        self.features_in, self.blocks, self.features_out = features, blocks, features
        self.channels, self.strides = (features,), ((1, 1),)
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, features, 7, padding=3, padding_mode="reflect"),
            *_norm_relu(features),
        ]
        for width in (features, 2 * features):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), *_norm_relu(2 * width)]
        layers += [ReflectingBlock(4 * features) for _ in range(blocks)]
        for width in (4 * features, 2 * features):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1),
                *_norm_relu(width // 2),
            ]
        self.layers = nn.Sequential(*layers)
        initialise_normal(self)

    def translated(self, unit: Tensor) -> Tensor:
        """One map of the input's size, padded to a multiple of 4."""
        translated: Tensor = self.layers(repeat_borders(unit, 4, self.SMALLEST))
        return translated

    @property
    def encoded_channels(self) -> tuple[int, ...]:
        """Of the maps that :meth:`encoded` gives."""
        return self.in_channels, *(self.features_in * factor for factor in (2, 4, 4, 4))

    def encoded(self, unit: Tensor) -> list[Tensor]:
        """What the first half makes of an image: the image, both halvings, the first and the middle block (CUT)."""
        blocks = [place for place, layer in enumerate(self.layers) if isinstance(layer, ReflectingBlock)]
        wanted = (3, 6, blocks[0], blocks[len(blocks) // 2])  # CUT's layers 4, 8, 12 and 16 of 9 blocks
        x, maps = repeat_borders(unit, 4, self.SMALLEST), []
        maps.append(x)
        for place, layer in enumerate(self.layers[: max(wanted) + 1]):
            x = layer(x)
            maps += [x] * wanted.count(place)
        return maps

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {
            "dim": self.dim,
            "in_channels": self.in_channels,
            "features": self.features_in,
            "blocks": self.blocks,
            "source_range": list(self.source_range),
        }


class ReflectingBlock(nn.Module):
    """3x3, instance norm, ReLU, 3x3, instance norm, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            *_norm_relu(channels),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        return x + self.body(x)


class UNetTrunk(Trunk):
    """pix2pix's U-Net: halvings by 4x4 convolutions down to one pixel (41,819,521 with its head at seven halvings).

    The original has seven halvings whatever the size and crops others to 128 pixels; here there are as many as the
    plan's patch allows, and images are padded and cropped (ours).
    """

    kind = "unet"

    def __init__(
        self,
        *,
        dim: int = 2,
        in_channels: int = 1,
        features: int = 64,
        halvings: int = 7,
        source_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(dim=dim, in_channels=in_channels, source_range=source_range)
        if not 2 <= halvings <= 8:
            raise ValueError(f"halvings must be 2 to 8, got {halvings}")
        self.features_in, self.halvings, self.features_out = features, halvings, 2 * features
        widths = [features * min(2**level, 8) for level in range(halvings)]
        self.channels, self.strides = (2 * features,), ((2, 2),)
        self.down = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(zip((in_channels, *widths), widths, strict=False)):
            inner = 0 < level < halvings - 1
            self.down.append(
                nn.Sequential(
                    *([] if level == 0 else [nn.LeakyReLU(0.2)]),
                    nn.Conv2d(inputs, outputs, 4, stride=2, padding=1),
                    *([nn.InstanceNorm2d(outputs)] if inner else []),
                )
            )
        self.up = nn.ModuleList()
        for level in reversed(range(1, halvings)):
            inputs = widths[level] * (1 if level == halvings - 1 else 2)
            self.up.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.ConvTranspose2d(inputs, widths[level - 1], 4, stride=2, padding=1),
                    nn.InstanceNorm2d(widths[level - 1]),
                )
            )
        initialise_normal(self)

    def translated(self, unit: Tensor) -> Tensor:
        """One map of half the input's size, padded to a multiple of 2 to the number of halvings."""
        step = 2**self.halvings
        x, maps = repeat_borders(unit, step, step), []
        for block in self.down:
            x = block(x)
            maps.append(x)
        x = maps.pop()
        for block in self.up:
            x = torch.cat([maps.pop(), block(x)], dim=1)
        return x

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {
            "dim": self.dim,
            "in_channels": self.in_channels,
            "features": self.features_in,
            "halvings": self.halvings,
            "source_range": list(self.source_range),
        }


def repeat_borders(image: Tensor, step: int, smallest: int) -> Tensor:
    """Repeat the last row and column of ``(B, C, H, W)`` until both are multiples of ``step``, and not too small."""
    missing = [max(smallest, size + -size % step) - size for size in image.shape[2:]]
    if not any(missing):
        return image
    return F.pad(image, (0, missing[1], 0, missing[0]), mode="replicate")


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU()]
