"""Bricks of the anisotropic U-Net (Lin et al., Medical Image Analysis 87, 102807, 2023), slices on the last axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_batchnorm, get_matching_convtransp
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import convolution, crop, pointwise
from nnunet_uhf.networks.contract import Decoder
from nnunet_uhf.networks.siqt.masksembles import MaskMaker

BATCH_NORM = {"eps": 1e-3, "momentum": 0.01}
"""The original's: averages over some 100 batches, of 32 patches there."""


class ConvReluNorm(nn.Module):
    """Convolution with bias -> ReLU -> mask, where there are masks -> batch normalisation (Lin et al. 2023)."""

    def __init__(self, dim: int, in_channels: int, channels: int, kernel_size: int, make_mask: MaskMaker) -> None:
        super().__init__()
        self.convolution = convolution(dim, in_channels, channels, kernel_size, bias=True)
        self.mask = make_mask(channels)
        self.norm = get_matching_batchnorm(dimension=dim)(channels, **BATCH_NORM)

    def forward(self, x: Tensor, member: Tensor | None) -> Tensor:
        """``(B, in_channels, *S) -> (B, channels, *S)``; ``member`` (B,) chooses the masks."""
        x = torch.relu_(self.convolution(x))
        if self.mask is not None:
            x = self.mask(x, member)
        normalised: Tensor = self.norm(x)
        return normalised


class Core(nn.Module):
    """Two ConvReluNorm of kernel 3 beside a 1x1 shortcut; their sum -> ReLU -> batch normalisation."""

    def __init__(self, dim: int, in_channels: int, channels: int, make_mask: MaskMaker) -> None:
        super().__init__()
        self.shortcut = pointwise(dim, in_channels, channels, bias=True)
        self.shortcut_mask = make_mask(channels)
        self.first = ConvReluNorm(dim, in_channels, channels, 3, make_mask)
        self.second = ConvReluNorm(dim, channels, channels, 3, make_mask)
        self.norm = get_matching_batchnorm(dimension=dim)(channels, **BATCH_NORM)

    def forward(self, x: Tensor, member: Tensor | None) -> Tensor:
        """``(B, in_channels, *S) -> (B, channels, *S)``; ``member`` (B,) chooses the masks."""
        short = self.shortcut(x)
        if self.shortcut_mask is not None:
            short = self.shortcut_mask(short, member)
        x = self.second(self.first(x, member), member)
        normalised: Tensor = self.norm(torch.relu_(short + x))
        return normalised


class SkipBottleneck(nn.Module):
    """A residual bottleneck on a skip, then a transposed convolution to the output's sampling along the slices."""

    def __init__(self, dim: int, channels: int, upsampling: int, make_mask: MaskMaker) -> None:
        super().__init__()
        narrow = channels // 2
        self.squeeze = ConvReluNorm(dim, channels, narrow, 1, make_mask)
        self.first = ConvReluNorm(dim, narrow, narrow, 3, make_mask)
        self.second = ConvReluNorm(dim, narrow, narrow, 3, make_mask)
        self.widen = ConvReluNorm(dim, narrow, channels, 1, make_mask)
        step = (*[1] * (dim - 1), upsampling)
        self.upsample = get_matching_convtransp(dimension=dim)(channels, channels, step, stride=step)

    def forward(self, x: Tensor, member: Tensor | None) -> Tensor:
        """``(B, C, *S, m) -> (B, C, *S, upsampling * m)``; ``member`` (B,) chooses the masks."""
        inner = self.widen(self.second(self.first(self.squeeze(x, member), member), member), member)
        upsampled: Tensor = self.upsample(x + inner)
        return upsampled


class ImageHead(Decoder):
    """The U-Net's last layer, a linear 1x1 convolution of the finest map: what a keeper file holds as its decoder.

    Args:
        dim: 2 or 3.
        base_features: channels of the finest map.
    """

    def __init__(self, *, dim: int, base_features: int = 16) -> None:
        super().__init__()
        self.dim, self.base_features = dim, base_features
        self.output = pointwise(dim, base_features, 1, bias=True)
        initialise_glorot(self)

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this module, ready for JSON."""
        return {"dim": self.dim, "base_features": self.base_features}

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """The image ``(B, 1, *size)`` of maps ``(B, c_l, *S_l)``, of which it reads the finest; as TeacherDecoder."""
        image: Tensor = self.output(maps[0])
        return crop(image, size)


def initialise_glorot(module: nn.Module) -> None:
    """Glorot's uniform initialisation and zero biases, the original's framework's."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
