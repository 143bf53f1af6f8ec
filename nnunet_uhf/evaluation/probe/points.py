"""Feature maps of a scan read at points of the world: sources of any spacing and orientation at the same voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from nnunet_uhf.inference.features import map_affine, scan_maps
from nnunet_uhf.inference.inputs import Scan
from nnunet_uhf.inference.map_source import MapSource, Prepared
from nnunet_uhf.inference.map_tiles import strides_of
from nnunet_uhf.types import Affine, FloatArray, Mask

SMOOTHINGS_MM = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations of the smoothed copies that stand for the neighbourhood of a voxel."""


@dataclass(frozen=True)
class PointMaps:
    """Maps of one scan.

    Attributes:
        maps: `(C_l, Z_l, Y_l, X_l)` each.
        affines: (4, 4) each, index (x, y, z) of a map to world mm.
        size: `(Z, Y, X)` of the scan as the network saw it.
        place: (4, 4), index (x, y, z) of that to world mm.
    """

    maps: Sequence[Tensor]
    affines: Sequence[Affine]
    size: tuple[int, ...]
    place: Affine

    def at(self, points: NDArray[np.float64]) -> FloatArray:
        """Features `(N, C)` of points `(N, 3)` in mm, all maps in a row, linear between voxels."""
        read = [_read(one, _index(points, affine)) for one, affine in zip(self.maps, self.affines, strict=True)]
        return np.concatenate(read, axis=1)

    def covers(self, points: NDArray[np.float64]) -> Mask:
        """Which points `(N, 3)` in mm lie in what the network saw: nnU-Net crops scans to what is not 0."""
        index = _index(points, self.place)
        ends = np.asarray(self.size[::-1]) - 0.5
        return np.asarray(((index >= -0.5) & (index <= ends)).all(axis=1))


def _index(points: NDArray[np.float64], affine: Affine) -> NDArray[np.float64]:
    back = np.linalg.inv(affine)
    return np.asarray(points @ back[:3, :3].T + back[:3, 3])


def _read(one: Tensor, index: NDArray[np.float64]) -> FloatArray:
    """A map `(C, Z, Y, X)` at indices (x, y, z) `(N, 3)`: `(N, C)`; beyond its ends the value at the end."""
    ends = np.maximum(np.asarray(one.shape[:0:-1]) - 1, 1)
    grid = torch.from_numpy((2 * index / ends - 1).astype(np.float32))[None, :, None, None]
    read = F.grid_sample(one[None], grid, mode="bilinear", padding_mode="border", align_corners=True)
    return np.asarray(read[0, :, :, 0, 0].T.numpy())


Reader = Callable[[Scan], PointMaps]
"""Maps of a scan."""


def network_reader(source: MapSource, device: torch.device) -> Reader:
    """All maps of a network."""
    source.network.to(device).eval()
    strides = strides_of(source.maps, source.channels, source.configuration.patch_size, device)
    levels = range(len(strides))

    def read(scan: Scan) -> PointMaps:
        prepared = source.prepare(scan)
        maps = [torch.from_numpy(one) for one in scan_maps(source, prepared, levels, strides, device)]
        affines = [map_affine(scan, prepared, source, stride) for stride in strides]
        return _of(source, scan, prepared, maps, affines)

    return read


def image_reader(source: MapSource, *, neighbourhood: bool) -> Reader:
    """The image itself as a network is given it; with its neighbourhood: smoothed copies and their slopes, too."""

    def read(scan: Scan) -> PointMaps:
        prepared = source.prepare(scan)
        image = np.asarray(prepared.data, dtype=np.float32)
        channels = [image]
        if neighbourhood:
            place = map_affine(scan, prepared, source, (1, 1, 1))
            spacing = np.linalg.norm(place[:3, :3], axis=0)[::-1]
            for width in SMOOTHINGS_MM:
                sigma = width / spacing
                channels += [np.stack([ndimage.gaussian_filter(one, sigma) for one in image])]
                channels += [np.stack([ndimage.gaussian_gradient_magnitude(one, sigma) for one in image])]
        maps = [torch.from_numpy(np.ascontiguousarray(np.concatenate(channels)))]
        return _of(source, scan, prepared, maps, [map_affine(scan, prepared, source, (1, 1, 1))])

    return read


def _of(
    source: MapSource, scan: Scan, prepared: Prepared, maps: Sequence[Tensor], affines: Sequence[Affine]
) -> PointMaps:
    place = map_affine(scan, prepared, source, (1, 1, 1))
    return PointMaps(maps, affines, tuple(prepared.data.shape[1:]), place)
