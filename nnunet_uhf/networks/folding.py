"""Neighbouring voxels as channels, and back: exact rearrangements (ours; known as space to depth and pixel shuffle)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def fold(x: Tensor, step: Sequence[int]) -> Tensor:
    """Space to depth: ``(B, C, *S) -> (B, C * prod(step), *ceil(S / step))``.

    Where ``S`` is no multiple of ``step`` the last planes are repeated. Channels are ordered as ``(C, *step)``.
    """
    missing = [-size % k for size, k in zip(x.shape[2:], step, strict=True)]
    if any(missing):
        x = F.pad(x, [width for count in reversed(missing) for width in (0, count)], mode="replicate")
    batch, channels, *size = x.shape
    pairs = [part for n, k in zip(size, step, strict=True) for part in (n // k, k)]
    dim = len(size)
    blocks = x.reshape(batch, channels, *pairs)
    order = (0, 1, *range(3, 3 + 2 * dim, 2), *range(2, 2 + 2 * dim, 2))
    return blocks.permute(order).flatten(1, 1 + dim)


def unfold(x: Tensor, step: Sequence[int]) -> Tensor:
    """Depth to space, the inverse of :func:`fold`: ``(B, C * prod(step), *S) -> (B, C, *(S * step))``."""
    size = [n * k for n, k in zip(x.shape[2:], step, strict=True)]
    return spread(x, step).reshape(x.shape[0], -1, *size)


def spread(x: Tensor, step: Sequence[int]) -> Tensor:
    """A view of :func:`unfold` that is not copied yet: ``(B, C, S_1, step_1, S_2, step_2, ..)``."""
    dim = len(step)
    blocks = x.unflatten(1, (-1, *step))
    order = (0, 1, *(axis for a in range(dim) for axis in (2 + dim + a, 2 + a)))
    return blocks.permute(order)
