"""Bricks that networks share: convolutions, resizing, and the sizes of maps at several resolutions.

Exact rewrite, same numbers with less work: a 1x1 convolution is a matrix product, with no copy of its input.

Notation as in the paper (arXiv 2402.08409): CB(k) = convolution k without bias, instance normalisation without
affine parameters, LeakyReLU(0.01); in 2D the authors' code has two of them in a row wherever it keeps the resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import convert_dim_to_conv_op
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.networks.card import LargeConv3d, channel_product, on_card, plain_norm

LEAKY_SLOPE = 0.01
LARGE_KERNEL = 5
"""From which on a convolution may pay on folded maps, see :mod:`nnunet_uhf.networks.card`."""

ConvNd = nn.Conv2d | nn.Conv3d
Strides = tuple[tuple[int, ...], ...]


class Pointwise2d(nn.Conv2d):
    """A 1x1 convolution; weights, names and initialisation are those of ``nn.Conv2d``."""

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """``(B, C, *S) -> (B, C_out, *S)``, added to ``onto`` of that shape where it is given."""
        return _mix_channels(self, x, onto)


class Pointwise3d(nn.Conv3d):
    """A 1x1x1 convolution; weights, names and initialisation are those of ``nn.Conv3d``."""

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """``(B, C, *S) -> (B, C_out, *S)``, added to ``onto`` of that shape where it is given."""
        return _mix_channels(self, x, onto)


def _mix_channels(layer: ConvNd, x: Tensor, onto: Tensor | None) -> Tensor:
    """The product of the weight matrix and every voxel of ``(B, C, *S)``; sums are taken in the same pass."""
    matrix = layer.weight.flatten(1)
    weight = matrix.expand(x.shape[0], -1, -1)
    total = None if onto is None else onto.flatten(2)
    if layer.bias is not None:
        total = layer.bias[:, None] if total is None else total + layer.bias[:, None]
    flat = x.flatten(2)
    if on_card(x) and matrix.requires_grad and torch.is_grad_enabled():
        return channel_product(matrix, flat, total).unflatten(2, x.shape[2:])
    mixed = torch.bmm(weight, flat) if total is None else torch.baddbmm(total, weight, flat)
    return mixed.unflatten(2, x.shape[2:])


def convolution(
    dim: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | None = None,
    bias: bool = False,
) -> ConvNd:
    """Convolution in ``dim`` (2 or 3) dimensions; ``padding=None`` keeps the size of odd kernels."""
    kernel = (kernel_size,) * dim if isinstance(kernel_size, int) else tuple(kernel_size)
    same = tuple(k // 2 for k in kernel)
    padding = same if padding is None else padding
    large = dim == 3 and stride == 1 and min(kernel) >= LARGE_KERNEL and padding == same
    made: Any = LargeConv3d if large and all(k % 2 for k in kernel) else convert_dim_to_conv_op(dim)
    layer: ConvNd = made(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias)
    return layer


def pointwise(dim: int, in_channels: int, out_channels: int, *, bias: bool = False) -> Pointwise2d | Pointwise3d:
    """1x1 convolution in ``dim`` (2 or 3) dimensions."""
    return (Pointwise2d if dim == 2 else Pointwise3d)(in_channels, out_channels, 1, bias=bias)


def normalised(dim: int, channels: int) -> nn.Sequential:
    """The tail of a CB: instance normalisation without affine parameters, then LeakyReLU(0.01)."""
    return nn.Sequential(plain_norm(dim, channels), nn.LeakyReLU(LEAKY_SLOPE, inplace=True))


def conv_block(
    dim: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int | Sequence[int] = 3,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | None = None,
    convolutions: int = 1,
) -> nn.Sequential:
    """CB(k) of the paper: ``(B, in_channels, *S) -> (B, out_channels, *S / stride)``.

    Args:
        dim: 2 or 3.
        in_channels: of the map.
        out_channels: of every convolution.
        kernel_size: odd where ``padding`` is None.
        stride: of the first convolution.
        padding: of the first convolution; None keeps the size.
        convolutions: how many in a row, each normalised; see :func:`stacked`.
    """
    layers: list[nn.Module] = [
        convolution(dim, in_channels, out_channels, kernel_size, stride=stride, padding=padding),
        *normalised(dim, out_channels),
    ]
    for _ in range(convolutions - 1):
        layers += [convolution(dim, out_channels, out_channels, kernel_size), *normalised(dim, out_channels)]
    return nn.Sequential(*layers)


def stacked(dim: int, convolutions: int | None) -> int:
    """How many convolutions a CB has: as many as asked for, else the authors', two in 2D and one in 3D.

    Raises:
        ValueError: neither 1 nor 2.
    """
    count = (2 if dim == 2 else 1) if convolutions is None else convolutions
    if count not in (1, 2):
        raise ValueError(f"convolutions must be 1 or 2, got {convolutions}")
    return count


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Linear interpolation of ``(B, C, *S)`` to ``(B, C, *size)``; nothing is computed when the size fits."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear" if x.ndim == 4 else "trilinear", align_corners=False)


def initialise_kaiming(module: nn.Module) -> None:
    """Kaiming fan-in initialisation of every convolution and linear layer below ``module`` (paper)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=LEAKY_SLOPE, mode="fan_in", nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_rows(weight: Tensor, fan_in: int) -> None:
    """Kaiming fan-in draw for weights that are part of a larger convolution with ``fan_in`` inputs."""
    nn.init.normal_(weight.detach(), std=nn.init.calculate_gain("leaky_relu", LEAKY_SLOPE) / math.sqrt(fan_in))


def cumulative(strides: Strides) -> Strides:
    """Stride of every level relative to the input, finest first."""
    total = [1] * len(strides[0])
    result = []
    for step in strides:
        total = [t * k for t, k in zip(total, step, strict=True)]
        result.append(tuple(total))
    return tuple(result)


def minimum_size(strides: Strides) -> tuple[int, ...]:
    """Smallest input for which no level is empty and the deepest has two voxels, as instance normalisation needs."""
    total = cumulative(strides)[-1]
    widest = total.index(max(total))  # torch.compile of 2.8 has no max of a range by key
    return tuple(max(2, t) * (2 if axis == widest else 1) for axis, t in enumerate(total))


def extend(x: Tensor, missing: Sequence[int]) -> Tensor:
    """Repeat the last plane of each spatial axis of ``(B, C, *S)`` as often as ``missing`` says."""
    if not any(missing):
        return x
    return F.pad(x, [width for count in reversed(missing) for width in (0, count)], mode="replicate")


def pad_to_minimum(x: Tensor, strides: Strides) -> Tensor:
    """Repeat the last planes of ``(B, C, *S)`` until every level of a network with these strides can be computed.

    Nothing happens once each axis holds one voxel of the deepest level and one of them holds two. Padding is at
    the far end, so that voxel 0 stays voxel 0 on every level.
    """
    size = x.shape[2:]
    total = cumulative(strides)[-1]
    missing = [max(0, t - n) for n, t in zip(size, total, strict=True)]
    if math.prod([(n + m) // t for n, m, t in zip(size, missing, total, strict=True)]) < 2:
        missing = [max(0, n - s) for s, n in zip(size, minimum_size(strides), strict=True)]
    return extend(x, missing)


def crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first ``size`` voxels along each spatial axis of ``(B, C, *S)``."""
    corner: Any = (..., *(slice(0, n) for n in size))
    return x[corner]


def crop_levels(maps: Sequence[Tensor], size: Sequence[int], strides: Strides) -> list[Tensor]:
    """Undo :func:`pad_to_minimum` on level maps: level l keeps ``max(1, size // stride_l)`` voxels an axis."""
    result = []
    for level, stride in zip(maps, cumulative(strides), strict=True):
        kept = [max(1, n // s) for n, s in zip(size, stride, strict=True)]
        result.append(crop(level, kept))
    return result
