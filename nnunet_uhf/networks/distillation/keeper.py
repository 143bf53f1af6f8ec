"""The knowledge keeper: teacher-like feature maps from a low-field image (arXiv 2402.08409).

Exact rewrites, same numbers with less work: the convolutions of a dense block that read the same input are one;
1x1 convolutions run on the coarse side of a resize; the attention over two maps is two convolutions, no concatenation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import (
    conv_block,
    convolution,
    crop_levels,
    cumulative,
    initialise_kaiming,
    initialise_rows,
    normalised,
    pad_to_minimum,
    pointwise,
    resize,
    stacked,
)
from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.networks.distillation.gate import PositionAwareGate
from nnunet_uhf.networks.distillation.levels import checked_strides, level_channels


class DenseBlock(nn.Module):
    """Three CB(k), each on the concatenation of the input and all earlier outputs; output: the concatenation of all.

    The weights are kept by what they read: ``shared`` holds the three convolutions of the input, ``from_first``
    the two of the first output, ``from_second`` the one of the second. With two convolutions a CB, ``tails`` hold
    the second one.
    """

    def __init__(self, dim: int, in_channels: int, growth: int, kernel_size: int, convolutions: int = 1) -> None:
        super().__init__()
        self.growth = growth
        self.out_channels = in_channels + 3 * growth
        self.shared = convolution(dim, in_channels, 3 * growth, kernel_size)
        self.from_first = convolution(dim, growth, 2 * growth, kernel_size)
        self.from_second = convolution(dim, growth, growth, kernel_size)
        self.tails = nn.ModuleList()
        for _ in range(3):
            seconds = [conv_block(dim, growth, growth, kernel_size) for _ in range(convolutions - 1)]
            self.tails.append(nn.Sequential(*normalised(dim, growth), *(layer for block in seconds for layer in block)))
        initialise_kaiming(self.tails)
        self._initialise(in_channels, kernel_size**dim)

    def _initialise(self, in_channels: int, taps: int) -> None:
        """Kaiming fan-in of the three concatenated convolutions that the rows belong to."""
        for layer, first_reader in ((self.shared, 0), (self.from_first, 1), (self.from_second, 2)):
            for reader, rows in enumerate(layer.weight.split(self.growth), start=first_reader):
                initialise_rows(rows, (in_channels + reader * self.growth) * taps)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S) -> (B, C + 3 growth, *S)``."""
        one, two, three = self.shared(x).split(self.growth, dim=1)
        first = self.tails[0](one)
        to_two, to_three = self.from_first(first).split(self.growth, dim=1)
        second = self.tails[1](two + to_two)
        third = self.tails[2](three + to_three + self.from_second(second))
        return torch.cat((x, first, second, third), dim=1)


class GuideBlock(nn.Module):
    """One guide: the coarser guide and the dense features, each weighed by an attention map, then gated."""

    def __init__(
        self,
        dim: int,
        dense: int,
        channels: int,
        coarser: int | None,
        kernel_size: int,
        position_branch: bool,
        convolutions: int = 1,
    ) -> None:
        super().__init__()
        self.skip = conv_block(dim, dense, channels, kernel_size, convolutions=convolutions)
        self.gate = PositionAwareGate(dim=dim, position_branch=position_branch)
        initialise_kaiming(self.skip)
        if coarser is not None:
            self.narrow = pointwise(dim, coarser, channels, bias=True)
            self.attend_coarse = pointwise(dim, channels, 2, bias=True)
            self.attend_skip = pointwise(dim, channels, 2)
            initialise_kaiming(self.narrow)
            for half in (self.attend_coarse, self.attend_skip):  # one 1x1 convolution over both in the paper
                initialise_rows(half.weight, 2 * channels)

    def forward(self, dense: Tensor, coarser: Tensor | None = None) -> Tensor:
        """Guide of this level ``(B, C, *S)`` from its dense features and the guide below (none at the deepest)."""
        guide: Tensor = self.skip(dense)
        if coarser is not None:
            below = resize(self.narrow(coarser), guide.shape[2:])
            weights = torch.sigmoid(self.attend_skip(guide, onto=self.attend_coarse(below)))
            guide = torch.addcmul(below * weights[:, :1], guide, weights[:, 1:])
        gated: Tensor = self.gate(guide)
        return gated


class KnowledgeKeeper(Keeper):
    """Infer the teacher's five feature maps from a low-field image.

    Args:
        dim: 2 or 3.
        in_channels: channels of the low-field image, 1.
        base_features: nf of the paper; the guides have the teacher's channels, nf * (1, 2, 4, 8, 16) in 3D, nf in 2D.
        strides: down-sampling step per level and axis, first all ones; ``None`` is isotropic.
        kernel_size: of the dense and guide convolutions, 7 in the paper; odd.
        position_branch: keep the position term of the gates.
        convolutions: of every CB in dense blocks and guides, 1 or 2; None is the authors', two in 2D and one in 3D.
            Version 0.1.0 had one in both.

    At nf = 16: 34.96 M parameters in 3D, 0.16 M in 2D. Those are the authors' 34,960,348 and 161,823, and 248 and 72
    biases of 1x1 convolutions, which start at zero (ours).

    Examples:
        >>> import torch
        >>> from nnunet_uhf import KnowledgeKeeper
        >>> keeper = KnowledgeKeeper(dim=3, base_features=4)
        >>> [tuple(one.shape[1:]) for one in keeper(torch.zeros(1, 1, 32, 32, 16))]
        [(4, 32, 32, 16), (8, 16, 16, 8), (16, 8, 8, 4), (32, 4, 4, 2), (64, 2, 2, 1)]
        >>> keeper.channels
        (4, 8, 16, 32, 64)
    """

    def __init__(
        self,
        *,
        dim: int,
        in_channels: int = 1,
        base_features: int = 16,
        strides: Sequence[Sequence[int]] | None = None,
        kernel_size: int = 7,
        position_branch: bool = True,
        convolutions: int | None = None,
    ) -> None:
        super().__init__()
        if base_features < 4 or base_features % 4:
            raise ValueError(f"base_features must be a positive multiple of 4, got {base_features}")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.dim, self.in_channels, self.base_features = dim, in_channels, base_features
        self.kernel_size, self.position_branch = kernel_size, position_branch
        self.convolutions = stacked(dim, convolutions)
        self.steps = checked_strides(dim, strides)
        self.strides = cumulative(self.steps)
        self.channels = level_channels(dim, base_features)
        growths = level_channels(dim, base_features // 4)
        self.dense = nn.ModuleList()
        self.transitions = nn.ModuleList()
        self.guides = nn.ModuleList()
        width = in_channels
        for level, growth in enumerate(growths):
            if level:
                step = self.steps[level]
                kernel = [4 if k == 2 else 3 for k in step]
                transition = conv_block(dim, width, growths[level - 1], kernel, stride=step, padding=1)
                initialise_kaiming(transition)
                self.transitions.append(transition)
                width = growths[level - 1]
            block = DenseBlock(dim, width, growth, kernel_size, self.convolutions)
            width = block.out_channels
            self.dense.append(block)
            coarser = self.channels[level + 1] if level + 1 < len(self.channels) else None
            self.guides.append(
                GuideBlock(dim, width, self.channels[level], coarser, kernel_size, position_branch, self.convolutions)
            )

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {
            "dim": self.dim,
            "in_channels": self.in_channels,
            "base_features": self.base_features,
            "strides": [list(step) for step in self.steps],
            "kernel_size": self.kernel_size,
            "position_branch": self.position_branch,
            "convolutions": self.convolutions,
        }

    def features(self, source: Tensor) -> list[Tensor]:
        """The five guides, finest first, with the sizes of ``UHFTeacher.encode`` (they cover inside padding)."""
        x = pad_to_minimum(source, self.steps)
        dense = [self.dense[0](x)]
        for transition, block in zip(self.transitions, self.dense[1:], strict=True):
            dense.append(block(transition(dense[-1])))
        guide = self.guides[-1](dense[-1])
        guides = [guide]
        for level in reversed(range(len(dense) - 1)):
            guide = self.guides[level](dense[level], guide)
            guides.append(guide)
        return guides[::-1]

    def forward(self, source: Tensor) -> list[Tensor]:
        """Guides of ``(B, C_in, *S)``: five maps ``(B, c_l, *S_l)``, finest first, S_l = max(1, S // stride_l)."""
        return crop_levels(self.features(source), source.shape[2:], self.steps)
