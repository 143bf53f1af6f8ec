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
"""`(B, C, *P)` to maps `(B, c_l, *P_l)`, finest first."""
TOGETHER = 2**17
"""Voxels of tiles that are computed together."""


def tiled_maps(
    maps: Maps,
    volumes: Tensor,
    *,
    strides: Sequence[Sequence[int]],
    patch_size: Sequence[int],
    levels: Sequence[int],
    device: torch.device,
) -> list[Tensor]:
    """Maps of volumes by tiles that overlap by half or more, weighted as nnU-Net weights its predictions.

    Tiles begin at whole steps of the coarsest map, so that all maps of a tile fall on one grid each.

    Args:
        maps: the network, in eval mode.
        volumes: `(B, C, *S)`, as many axes as the patch; padded with 0 at their end where they are too small or do not
            fit.
        strides: of every map, as :func:`strides_of` tells them.
        patch_size: of a tile, `*P`; made larger where a map does not divide it.
        levels: which maps, 0 the finest.
        device: where tiles are computed; sums are kept on the CPU.

    Returns:
        For each level `(B, c_l, *S_l)`, float32, with S_l = ceil(S / stride_l).

    Raises:
        IndexError: the network has no such level.
    """
    size = list(volumes.shape[2:])
    with torch.inference_mode():
        coarsest = [max(stride[axis] for stride in strides) for axis in range(len(size))]
        patch = [_up(length, unit) for length, unit in zip(patch_size, coarsest, strict=True)]
        padded = [max(_up(length, unit), tile) for length, unit, tile in zip(size, coarsest, patch, strict=True)]
        ends = [(0, whole - length) for whole, length in zip(padded, size, strict=True)]
        volumes = F.pad(volumes, [n for pair in reversed(ends) for n in pair])
        starts = [_starts(*lengths) for lengths in zip(padded, patch, coarsest, strict=True)]
        places = list(product(range(len(volumes)), *starts))
        sums: dict[int, Tensor] = {}
        weights: dict[int, Tensor] = {}
        together = tiles_together(patch, device)
        for first in range(0, len(places), together):
            batch = places[first : first + together]
            tiles = [volumes[_box(one, start, patch)] for one, *start in batch]
            found = maps(torch.stack(tiles).to(device))
            for level in levels:
                made, stride = found[level].float().cpu(), strides[level]
                weight = compute_gaussian(
                    tuple(made.shape[2:]), sigma_scale=1 / 8, dtype=torch.float32, device=made.device
                )
                if level not in sums:
                    whole = [length // unit for length, unit in zip(padded, stride, strict=True)]
                    sums[level] = torch.zeros(len(volumes), made.shape[1], *whole)
                    weights[level] = torch.zeros(whole)
                for (one, *start), tile in zip(batch, made * weight, strict=True):
                    there = _box(one, [a // unit for a, unit in zip(start, stride, strict=True)], tile.shape[1:])
                    sums[level][there] += tile
                    if one == 0:  # the tiles of all volumes lie alike
                        weights[level][there[2:]] += weight
    kept = {
        level: tuple(slice(0, math.ceil(n / unit)) for n, unit in zip(size, strides[level], strict=True))
        for level in levels
    }
    return [(sums[level] / weights[level])[(slice(None), slice(None), *kept[level])] for level in levels]


def tiles_together(patch: Sequence[int], device: torch.device) -> int:
    """How many tiles a pass has: on a CPU two or more, since torch has a slow convolution for one small image."""
    return max(2 if device.type == "cpu" else 1, TOGETHER // math.prod(patch))


def _box(number: int, start: Sequence[int], size: Sequence[int]) -> tuple[int | slice, ...]:
    """A tile of a volume among volumes `(B, C, *S)`."""
    return (number, slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True)))


def strides_of(maps: Maps, channels: int, patch_size: Sequence[int], device: torch.device) -> list[tuple[int, ...]]:
    """Per level and axis how much coarser a map is than the image, by passes of empty patches.

    A network may cut the maps of a patch that its strides do not divide: the last pass is of one that they do.
    """

    def strides(patch: Sequence[int]) -> list[tuple[int, ...]]:
        with torch.inference_mode():
            found = maps(torch.zeros(1, channels, *patch, device=device))
        return [tuple(max(1, round(n / m)) for n, m in zip(patch, one.shape[2:], strict=True)) for one in found]

    first = strides(patch_size)
    if not any(length % unit for stride in first for length, unit in zip(patch_size, stride, strict=True)):
        return first
    coarsest = [2 ** round(math.log2(max(axis))) for axis in zip(*first, strict=True)]
    return strides([_up(length, unit) for length, unit in zip(patch_size, coarsest, strict=True)])


def _up(length: int, unit: int) -> int:
    return -(-length // unit) * unit


def _starts(length: int, tile: int, unit: int) -> list[int]:
    """Where tiles begin: from 0 to the end, half a tile or less apart, at whole units."""
    last = length - tile
    count = 1 + math.ceil(last / max(unit, tile // 2))
    return sorted({round(last / unit * n / max(1, count - 1)) * unit for n in range(count)})
