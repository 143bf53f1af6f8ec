"""The same numbers by other kernels, where a graphics card would be slow at the usual ones (ours).

By the cost model of ``benchmarks/gpu_costs.py``. Nothing here is used on a CPU, nor in a compiled network: the compiler
writes kernels of its own. The meta device stands for a card, so that costs can be counted without one.

- The library normalises each channel of each sample in one thread block, however large the map: here it is a reduction
  that the whole card shares.
- A matrix product that gives the gradient of a 1x1 convolution's weight sums over all voxels in one thread block: here
  it is cut into pieces.
- A convolution whose channels are no multiples of 8 misses the tensor cores: here it runs on the folded map, in which
  2x2x2 voxels are one with eight times the channels, with as many zeros among its weights as that takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.networks.folding import fold, unfold

LARGE_MAP = 2**17
"""Voxels of a map above which one thread block is too few."""
PIECES = 64
"""Of a sum over voxels."""
TENSOR_CORES = 8
"""What they need channels to be a multiple of, in half precision."""


def on_card(x: Tensor) -> bool:
    """Whether the kernels of this module are the better ones for a map ``(B, C, *S)``."""
    large = math.prod(x.shape[2:]) >= LARGE_MAP
    return large and x.device.type in ("cuda", "meta") and not torch.compiler.is_compiling()


class _InstanceNorm(torch.autograd.Function):
    """Instance normalisation of ``(B, C, *S)`` in single precision or better; the result has the map's type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        axes = tuple(range(2, x.ndim))
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dim=axes, correction=0, keepdim=True)
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, mean, scale)
        return torch.addcmul(-mean * scale, x, scale, out=torch.empty_like(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, mean, scale = ctx.saved_tensors
        (gradient,) = gradients
        axes = tuple(range(2, x.ndim))
        count = math.prod(x.shape[2:])
        wide = gradient.to(mean.dtype)
        total = wide.sum(dim=axes, keepdim=True)
        along = ((wide * x).sum(dim=axes, keepdim=True) - mean * total) * scale  # sum of gradient * normalised map
        slope = -scale * scale * along / count
        offset = -scale * total / count - mean * slope
        rest = torch.addcmul(offset, x, slope)
        return torch.addcmul(rest, gradient, scale, out=torch.empty_like(x)), None


def instance_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """``F.instance_norm`` of ``(B, C, *S)`` without weights, as a reduction that the whole card shares."""
    return cast(Tensor, _InstanceNorm.apply(x, eps))


class _ChannelProduct(torch.autograd.Function):
    """``weight (O, C)`` times ``(B, C, N)``, plus ``onto (B, O, N)`` where it is given."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, flat: Tensor, onto: Tensor | None) -> Tensor:
        kind = flat.device.type
        half = torch.is_autocast_enabled("cuda") and kind == "cuda"
        dtype = torch.get_autocast_dtype("cuda") if half else torch.promote_types(weight.dtype, flat.dtype)
        weight, flat = weight.to(dtype), flat.to(dtype)
        ctx.save_for_backward(weight, flat)
        ctx.added = onto is not None
        spread = weight.expand(flat.shape[0], -1, -1)
        return torch.bmm(spread, flat) if onto is None else torch.baddbmm(onto.to(dtype), spread, flat)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        weight, flat = ctx.saved_tensors
        gradient = gradients[0].to(flat.dtype)
        of_weight = sum_of_outer_products(gradient, flat) if ctx.needs_input_grad[0] else None
        of_flat = None
        if ctx.needs_input_grad[1]:
            of_flat = torch.bmm(weight.t().expand(flat.shape[0], -1, -1), gradient)
        return of_weight, of_flat, gradient if ctx.added else None


def sum_of_outer_products(left: Tensor, right: Tensor) -> Tensor:
    """``(B, O, N), (B, C, N) -> (O, C)``, summed over samples and voxels, the voxels piece by piece."""
    pieces = math.gcd(left.shape[2], PIECES)
    total = torch.zeros((), device=left.device)
    for one, other in zip(left.contiguous(), right.contiguous(), strict=True):
        cut = one.unflatten(1, (pieces, -1)).transpose(0, 1)
        with_ = other.unflatten(1, (pieces, -1)).permute(1, 2, 0)
        total = total + torch.bmm(cut, with_).sum(dim=0, dtype=torch.promote_types(left.dtype, torch.float32))
    return total


def channel_product(weight: Tensor, flat: Tensor, onto: Tensor | None = None) -> Tensor:
    """``(O, C), (B, C, N) -> (B, O, N)``: a 1x1 convolution whose gradient is summed piece by piece."""
    return cast(Tensor, _ChannelProduct.apply(weight, flat, onto))


class LargeConv3d(nn.Conv3d):
    """A convolution of odd kernel that keeps the size; weights, names and initialisation are those of ``nn.Conv3d``."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S) -> (B, C_out, *S)``."""
        narrow = self.in_channels % TENSOR_CORES or self.out_channels % TENSOR_CORES
        folds = narrow and on_card(x) and not torch.is_grad_enabled() and sizes_are_even(x.shape[2:])
        return self.on_folded(x) if folds else super().forward(x)

    def on_folded(self, x: Tensor) -> Tensor:
        """The same, computed on the folded map; even sizes."""
        step = (2, 2, 2)
        weight = folded_weight(self.weight)
        reach = [kernel // 2 for kernel in weight.shape[2:]]
        bias = None if self.bias is None else self.bias.repeat_interleave(math.prod(step))
        return unfold(F.conv3d(fold(x, step), weight, bias, padding=reach), step)


def folded_weight(weight: Tensor) -> Tensor:
    """Weight of the convolution of a folded map: ``(O, C, *K) -> (8 O, 8 C, *M)``, K and M odd.

    Voxel 2q + r of the output sees voxel 2(q + m) + s of the input through tap 2m + s - r + K // 2, if there is one.
    """
    size = weight.shape[2:]
    padded = F.pad(weight, (0, 1) * 3)  # the last tap is zero, for those that are not there
    tables = [_taps(kernel, weight.device) for kernel in size]
    dim = len(tables)
    # each table is (r, s, m); axes of the result: O, C, r_1, s_1, m_1, r_2, ..
    shaped = [
        table.reshape([1] * (3 * axis) + list(table.shape) + [1] * (3 * (dim - 1 - axis)))
        for axis, table in enumerate(tables)
    ]
    index: Any = (slice(None), slice(None), *shaped)
    gathered = padded[index]
    order = (0, *(2 + 3 * a for a in range(dim)), 1, *(3 + 3 * a for a in range(dim)), *(4 + 3 * a for a in range(dim)))
    blocks = gathered.permute(order)
    taps = blocks.shape[-dim:]
    return blocks.reshape(weight.shape[0] * 2**dim, weight.shape[1] * 2**dim, *taps)


def _taps(kernel: int, device: torch.device) -> Tensor:
    """Index of the tap for every place in the output's pair, in the input's pair, and step of the folded kernel."""
    half = kernel // 2
    reach = (half + 1) // 2
    r, s, m = torch.meshgrid(
        torch.arange(2, device=device),
        torch.arange(2, device=device),
        torch.arange(-reach, reach + 1, device=device),
        indexing="ij",
    )
    tap = 2 * m + s - r + half
    return torch.where((tap >= 0) & (tap < kernel), tap, kernel)


def normalises(x: Tensor, layer: nn.InstanceNorm2d | nn.InstanceNorm3d) -> bool:
    """Whether :func:`instance_norm` is the better one of a layer without weights for a map."""
    return not layer.affine and not layer.track_running_stats and on_card(x)


class SharedInstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalisation; without weights, large maps are normalised by the whole card."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        return instance_norm(x, self.eps) if normalises(x, self) else super().forward(x)


class SharedInstanceNorm3d(nn.InstanceNorm3d):
    """Instance normalisation; without weights, large maps are normalised by the whole card."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to the same."""
        return instance_norm(x, self.eps) if normalises(x, self) else super().forward(x)


def plain_norm(dim: int, channels: int) -> SharedInstanceNorm2d | SharedInstanceNorm3d:
    """Instance normalisation without weights in ``dim`` (2 or 3) dimensions."""
    return (SharedInstanceNorm2d if dim == 2 else SharedInstanceNorm3d)(channels, affine=False)


def sizes_are_even(size: Sequence[int]) -> bool:
    """Whether every axis can be folded."""
    return not any(n % 2 for n in size)
