"""A U-Net on folded voxels that gives guides at half resolution and below (ours).

What makes it cheap on a graphics card, by the cost model of ``benchmarks/gpu_costs.py``: the image is folded into
channels (2x2x2 voxels become one with eight channels), so that there is no map at full resolution; widths are multiples
of 8, which tensor cores need; and the finest stage, whose normalisations would take the longest, has none. Without them
it keeps the brightness of the image, which an instance normalisation removes. The finest map carries the folded image
itself, so that its head has only the difference to learn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import (
    LEAKY_SLOPE,
    Strides,
    conv_block,
    convolution,
    crop,
    crop_levels,
    cumulative,
    initialise_kaiming,
    pad_to_minimum,
    pointwise,
)
from nnunet_uhf.networks.contract import Decoder, Keeper
from nnunet_uhf.networks.distillation.levels import level_strides
from nnunet_uhf.networks.folding import fold, unfold

HEAD_START = 0.1
"""By how much smaller than Kaiming's the weights of the image head start."""
LEVELS = 5
"""Maps of the keeper, the finest of half resolution."""
OF_IMAGE = 8
"""Channels of the finest map that the folded image has; zero where it has fewer."""
MAX_WIDTH = 256
"""Channels of the coarse maps at most."""


class SpaceToDepthKeeper(Keeper):
    """A U-Net on the folded image: five maps, the finest at half resolution.

    Args:
        dim: 2 or 3.
        in_channels: channels of the low-field image, 1.
        width: channels of the U-Net's finest stage, a multiple of 8; they double a level up to 256. The finest map has
            eight more, for the folded image.
        strides: step of each of the five levels, the first from the image to the finest map; every step is 1 or 2 an
            axis and the first folds one axis at least. ``None`` is isotropic.

    The maps are those of the U-Net's decoder; the coarsest is its bottleneck.

    Examples:
        >>> import torch
        >>> from nnunet_uhf import SpaceToDepthKeeper
        >>> keeper = SpaceToDepthKeeper(dim=3, width=8)
        >>> [tuple(one.shape[1:]) for one in keeper(torch.zeros(1, 1, 64, 64, 32))]
        [(16, 32, 32, 16), (16, 16, 16, 8), (32, 8, 8, 4), (64, 4, 4, 2), (128, 2, 2, 1)]
    """

    def __init__(
        self, *, dim: int, in_channels: int = 1, width: int = 16, strides: Sequence[Sequence[int]] | None = None
    ) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise ValueError(f"width must be a positive multiple of 8, got {width}")
        self.dim, self.in_channels, self.width = dim, in_channels, width
        self.steps = checked_steps(dim, strides)
        self.strides = cumulative(self.steps)
        self.channels = map_channels(width)
        widths = unet_widths(width)
        folded = in_channels * math.prod(self.steps[0])
        if folded > OF_IMAGE:
            raise ValueError(f"the folded image has {folded} channels, the finest map carries {OF_IMAGE} of it at most")
        self.stem = nn.Sequential(*_plain(dim, folded, width), *_plain(dim, width, width))
        self.down = nn.ModuleList(
            nn.Sequential(conv_block(dim, fine, coarse, stride=step), conv_block(dim, coarse, coarse))
            for (fine, coarse), step in zip(pairwise(widths), self.steps[1:], strict=True)
        )
        transposed = get_matching_convtransp(dimension=dim)
        self.up = nn.ModuleList(
            transposed(coarse, fine, step, step)
            for (fine, coarse), step in zip(pairwise(widths), self.steps[1:], strict=True)
        )
        self.merge = nn.ModuleList(
            conv_block(dim, 2 * fine, fine, convolutions=2)
            if level
            else nn.Sequential(*_plain(dim, 2 * fine, fine), *_plain(dim, fine, fine))
            for level, fine in enumerate(widths[:-1])
        )
        initialise_kaiming(self)

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {
            "dim": self.dim,
            "in_channels": self.in_channels,
            "width": self.width,
            "strides": [list(step) for step in self.steps],
        }

    def features(self, source: Tensor) -> list[Tensor]:
        """The five maps, finest first; they cover the padding inside, and the last voxel of odd sizes."""
        folded = fold(pad_to_minimum(source, self.steps), self.steps[0])
        x = self.stem(folded)
        skips = [x]
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        maps = [skips.pop()]
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            skip = skips.pop()
            maps.append(merge(torch.cat((crop(up(maps[-1]), skip.shape[2:]), skip), dim=1)))
        unused = folded.new_zeros(folded.shape[0], OF_IMAGE - folded.shape[1], *folded.shape[2:])
        finest = torch.cat((maps.pop(), folded, unused), dim=1)
        return [finest, *maps[::-1]]

    def forward(self, source: Tensor) -> list[Tensor]:
        """Maps of ``(B, C_in, *S)``: five of ``(B, c_l, *S_l)``, finest first, S_l = max(1, S // stride_l)."""
        maps = self.features(source)
        return crop_levels(maps, source.shape[2:], self.steps)


class DepthToSpaceHead(Decoder):
    """The image of the finest map: a matrix product a voxel, unfolded to full resolution. It starts near the source.

    Args:
        dim: 2 or 3.
        width: of the keeper.
        strides: of the keeper; the first is that of the map.
    """

    def __init__(self, *, dim: int, width: int = 16, strides: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        self.dim, self.width, self.steps = dim, width, checked_steps(dim, strides)
        self.step = self.steps[0]
        places = math.prod(self.step)
        self.output = pointwise(dim, width + OF_IMAGE, places, bias=True)
        initialise_kaiming(self)
        with torch.no_grad():  # it starts near the image it was given
            self.output.weight.mul_(HEAD_START)
            self.output.weight[:, width : width + places].view(places, places).copy_(torch.eye(places))

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this module, ready for JSON."""
        return {"dim": self.dim, "width": self.width, "strides": [list(step) for step in self.steps]}

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """The image ``(B, 1, *size)`` in normalised intensities."""
        return crop(unfold(self.output(maps[0]), self.step), size)


def _plain(dim: int, in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    """A convolution and its activation, not normalised."""
    return convolution(dim, in_channels, out_channels, 3, bias=True), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)


def map_channels(width: int) -> tuple[int, ...]:
    """Channels of the five maps, finest first; the finest carries the folded image."""
    first, *others = unet_widths(width)
    return (first + OF_IMAGE, *others)


def unet_widths(width: int) -> tuple[int, ...]:
    """Channels of the U-Net's five stages, finest first."""
    return tuple(min(width * 2**level, max(width, MAX_WIDTH)) for level in range(LEVELS))


def checked_steps(dim: int, strides: Sequence[Sequence[int]] | None) -> Strides:
    """The steps as nested tuples, isotropic when ``None``.

    Raises:
        ValueError: not five steps of 1 or 2, or a first one that folds nothing.
    """
    steps = steps_for(dim) if strides is None else tuple(tuple(int(k) for k in step) for step in strides)
    if len(steps) != LEVELS or any(len(step) != dim for step in steps):
        raise ValueError(f"strides must be {LEVELS} tuples of {dim} integers, got {strides}")
    if any(k not in (1, 2) for step in steps for k in step) or max(steps[0]) == 1:
        raise ValueError(f"every step is 1 or 2, and the first folds an axis, got {strides}")
    return steps


def steps_for(dim: int, *, spacing: Sequence[float] | None = None) -> Strides:
    """Steps of the five levels for a spacing in mm: as in nnU-Net an axis coarser than twice the finest waits."""
    return level_strides(dim, spacing=spacing, levels=LEVELS + 1)[1:]
