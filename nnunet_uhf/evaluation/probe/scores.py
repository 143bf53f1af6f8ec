"""A linear classifier's scores of a whole scan, taken where it is cheap: on the maps' own grids (ours).

Scores are linear in the maps, and so is reading between voxels: either may come first. Of a map with more channels than
there are labels the scores are taken on its own, mostly coarser grid, and are what is interpolated; axis by axis, since
the axes of all grids of a scan are parallel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_uhf.evaluation.probe.points import Axis, PointMaps, axes_between

AT_A_TIME = 2**21
"""Numbers of a slab that are in memory at a time."""


def slab_scores(
    maps: PointMaps, weights: Tensor, bias: Tensor, shape: Sequence[int]
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """`features @ weights + bias` of the voxels that the network saw of a stored scan (X, Y, Z), slab by slab.

    Args:
        maps: `C` in all.
        weights: `(C, K)`.
        bias: `(K,)`.
        shape: of the scan.

    Yields:
        A part of the scan, and its scores `(K, *S)`.
    """
    box = maps.seen(shape)
    parts = weights.split([len(one) for one in maps.maps])
    grids = [
        _Grid.of(one, part, axes_between(shape, maps.scan, affine), box)
        for one, part, affine in zip(maps.maps, parts, maps.affines, strict=True)
    ]
    widest = max(len(bias), *(len(grid.values) for grid in grids))
    first, *across = box
    thick = max(1, AT_A_TIME // max(1, widest * math.prod(part.stop - part.start for part in across)))
    for start in range(first.start, first.stop, thick):
        stop = min(start + thick, first.stop)
        yield (slice(start, stop), *across), _sum(grids, bias, slice(start - first.start, stop - first.start))


@dataclass(frozen=True)
class _Grid:
    """One map, or its scores, on its own grid.

    Attributes:
        values: `(C, *S_l)`, axes in the order of the scan's.
        along: for every axis the interpolation to the voxels of the box `(n, S_l)`.
        weights: `(C, K)` that are still to be applied, None of scores.
    """

    values: Tensor
    along: tuple[Tensor, ...]
    weights: Tensor | None

    @classmethod
    def of(cls, one: Tensor, weights: Tensor, axes: Sequence[Axis], box: Sequence[slice]) -> _Grid:
        """From a map `(C, Z, Y, X)` and its weights `(C, K)`, which are applied at once where that is cheaper."""
        fine = one[0].numel() >= math.prod(part.stop - part.start for part in box)
        late = fine and len(one) <= weights.shape[1]
        values = one if late else (weights.T @ one.flatten(1)).unflatten(1, one.shape[1:])
        values = values.permute(0, *(3 - axis.along for axis in axes)).contiguous()
        lengths = values.shape[1:]
        along = tuple(axis.weights(n)[part] for axis, n, part in zip(axes, lengths, box, strict=True))
        return cls(values, along, weights if late else None)

    def lines(self, inside: slice) -> Tensor:
        """Values `(C, n, n, S_l)` of a slab of the box, read along the first two axes."""
        slab = (self.along[0][inside] @ self.values.flatten(2)).unflatten(2, self.values.shape[2:])
        return self.along[1] @ slab


def _sum(grids: Sequence[_Grid], bias: Tensor, inside: slice) -> Tensor:
    """Scores `(K, *S)` of a slab of the box, over all grids."""
    size = [len(along) for along in (grids[0].along[0][inside], *grids[0].along[1:])]
    scores = bias[:, None]
    for grid in grids:
        if grid.weights is not None:
            read = grid.lines(inside) @ grid.along[2].T
            scores = torch.addmm(scores, grid.weights.T, read.flatten(1))
    early = [grid for grid in grids if grid.weights is None]
    if early:  # side by side, so that one product reads and adds them
        lines = torch.cat([grid.lines(inside) for grid in early], dim=-1)
        scores = (lines @ torch.cat([grid.along[2] for grid in early], dim=1).T).flatten(1).add_(scores)
    return scores.unflatten(1, size)
