"""Feature maps of a whole volume, tile by tile: a map has its own, coarser grid (ours)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import Tensor
from torch.nn import functional as F

Maps = Callable[[Tensor], Sequence[Tensor]]
"""`(1, C, *P)` to maps `(1, c_l, *P_l)`, finest first."""


def tiled_maps(
    maps: Maps,
    volume: Tensor,
    *,
    strides: Sequence[Sequence[int]],
    patch_size: Sequence[int],
    levels: Sequence[int],
    device: torch.device,
    on_tile: Callable[[int, int], None] | None = None,
) -> list[Tensor]:
    """Maps of a volume that overlap by half a tile, weighted as nnU-Net weights its predictions.

    Tiles begin at whole steps of the coarsest map, so that all maps of a tile fall on one grid each.

    Args:
        maps: the network, in eval mode.
        volume: `(C, *S)`, as many axes as the patch; padded with 0 at its end where it is too small or does not fit.
        strides: of every map, as :func:`strides_of` tells them.
        patch_size: of a tile, `*P`; made larger where a map does not divide it.
        levels: which maps, 0 the finest.
        device: where tiles are computed; sums are kept on the CPU.
        on_tile: called with (done, all) after every tile.

    Returns:
        For each level `(c_l, *S_l)`, float32, with S_l = ceil(S / stride_l).

    Raises:
        IndexError: the network has no such level.
    """
    size = list(volume.shape[1:])
    with torch.inference_mode():
        coarsest = [max(stride[axis] for stride in strides) for axis in range(len(size))]
        patch = [_up(length, step) for length, step in zip(patch_size, coarsest, strict=True)]
        padded = [max(_up(length, step), tile) for length, step, tile in zip(size, coarsest, patch, strict=True)]
        ends = [(0, whole - length) for whole, length in zip(padded, size, strict=True)]
        volume = F.pad(volume, [n for pair in reversed(ends) for n in pair])
        starts = [_starts(*lengths) for lengths in zip(padded, patch, coarsest, strict=True)]
        places = list(product(*starts))
        sums: dict[int, Tensor] = {}
        weights: dict[int, Tensor] = {}
        for done, start in enumerate(places):
            tile = volume[(slice(None), *(slice(a, a + n) for a, n in zip(start, patch, strict=True)))]
            found = maps(tile[None].contiguous().to(device))
            for level in levels:
                one, stride = found[level][0].float().cpu(), strides[level]
                weight = compute_gaussian(
                    tuple(one.shape[1:]), sigma_scale=1 / 8, dtype=torch.float32, device=one.device
                )
                if level not in sums:
                    whole = [length // step for length, step in zip(padded, stride, strict=True)]
                    sums[level] = torch.zeros(one.shape[0], *whole)
                    weights[level] = torch.zeros(whole)
                there = tuple(
                    slice(a // step, a // step + n) for a, step, n in zip(start, stride, one.shape[1:], strict=True)
                )
                sums[level][(slice(None), *there)] += one * weight
                weights[level][there] += weight
            if on_tile is not None:
                on_tile(done + 1, len(places))
    kept = {
        level: tuple(slice(0, math.ceil(n / step)) for n, step in zip(size, strides[level], strict=True))
        for level in levels
    }
    return [(sums[level] / weights[level])[(slice(None), *kept[level])] for level in levels]


def strides_of(maps: Maps, channels: int, patch_size: Sequence[int], device: torch.device) -> list[tuple[int, ...]]:
    """Per level and axis how much coarser a map is than the image, by a pass of an empty patch."""
    with torch.inference_mode():
        found = maps(torch.zeros(1, channels, *patch_size, device=device))
    return [tuple(max(1, round(n / m)) for n, m in zip(patch_size, one.shape[2:], strict=True)) for one in found]


def _up(length: int, step: int) -> int:
    return -(-length // step) * step


def _starts(length: int, tile: int, step: int) -> list[int]:
    """Where tiles begin: from 0 to the end, half a tile or less apart, at whole steps."""
    last = length - tile
    count = 1 + math.ceil(last / max(step, tile // 2))
    return sorted({round(last / step * n / max(1, count - 1)) * step for n in range(count)})
