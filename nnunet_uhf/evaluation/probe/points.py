"""Feature maps of a scan at its voxels: sources of any spacing and orientation at the same ones (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nnunet_uhf.types import Affine, FloatArray


@dataclass(frozen=True)
class PointMaps:
    """Maps of one scan.

    Attributes:
        maps: `(C_l, Z_l, Y_l, X_l)` each.
        affines: (4, 4) each, index (x, y, z) of a map to world mm.
        size: `(Z, Y, X)` of the scan as the network saw it.
        place: (4, 4), index (x, y, z) of that to world mm.
        scan: (4, 4), index (x, y, z) of the scan as it is stored to world mm.
    """

    maps: Sequence[Tensor]
    affines: Sequence[Affine]
    size: tuple[int, ...]
    place: Affine
    scan: Affine

    def at(self, points: NDArray[np.float64]) -> FloatArray:
        """Features `(N, C)` of points `(N, 3)` in mm, all maps in a row, linear between voxels."""
        read = [_read(one, _index(points, affine)) for one, affine in zip(self.maps, self.affines, strict=True)]
        return np.concatenate(read, axis=1)

    def at_voxels(self, index: NDArray[np.int64], shape: Sequence[int]) -> FloatArray:
        """Features `(N, C)` of voxels of the stored scan (X, Y, Z), by their place in the flattened array."""
        voxels = np.stack(np.unravel_index(index, shape), axis=1)
        return self.at(voxels @ self.scan[:3, :3].T + self.scan[:3, 3])

    def seen(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """The box of the stored scan (X, Y, Z) that the network saw: nnU-Net crops scans to what is not 0."""
        box = []
        for axis in axes_between(shape, self.scan, self.place):
            ends = self.size[::-1][axis.along] - 0.5
            inside = np.flatnonzero((axis.positions >= -0.5) & (axis.positions <= ends))
            box.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
        return tuple(box)


@dataclass(frozen=True)
class Axis:
    """An axis of one grid as another has it.

    Attributes:
        along: axis (x, y, z) of the other grid.
        positions: index there of every voxel `(n,)`.
    """

    along: int
    positions: NDArray[np.float64]

    def weights(self, length: int) -> Tensor:
        """`(n, length)`: linear interpolation of values that lie along the axis; beyond its ends the value there."""
        inside = np.clip(self.positions, 0, length - 1)
        below = np.minimum(np.floor(inside).astype(np.int64), max(length - 2, 0))
        above = np.minimum(below + 1, length - 1)
        rows = np.arange(len(inside))
        found = np.zeros((len(inside), length), np.float32)
        found[rows, below] += 1 - (inside - below)
        found[rows, above] += inside - below
        return torch.from_numpy(found)


def axes_between(shape: Sequence[int], affine: Affine, other: Affine) -> tuple[Axis, ...]:
    """The axes of a grid (X, Y, Z) in another one, whose axes are parallel to its own, in any order and direction."""
    step = np.linalg.inv(other) @ affine
    along = np.argmax(np.abs(step[:3, :3]), axis=0)
    return tuple(
        Axis(int(b), step[b, 3] + step[b, a] * np.arange(n)) for a, (b, n) in enumerate(zip(along, shape, strict=True))
    )


def _index(points: NDArray[np.float64], affine: Affine) -> NDArray[np.float64]:
    back = np.linalg.inv(affine)
    return np.asarray(points @ back[:3, :3].T + back[:3, 3])


def _read(one: Tensor, index: NDArray[np.float64]) -> FloatArray:
    """A map `(C, Z, Y, X)` at indices (x, y, z) `(N, 3)`: `(N, C)`; beyond its ends the value at the end."""
    ends = np.maximum(np.asarray(one.shape[:0:-1]) - 1, 1)
    grid = torch.from_numpy((2 * index / ends - 1).astype(np.float32))[None, :, None, None]
    read = F.grid_sample(one[None], grid, mode="bilinear", padding_mode="border", align_corners=True)
    return np.asarray(read[0, :, :, 0, 0].T.numpy())
