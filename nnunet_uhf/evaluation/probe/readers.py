"""What gives the maps that are probed: a network, or the image that it is given (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import nibabel
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_uhf.evaluation.probe.points import PointMaps
from nnunet_uhf.imageio.place import read_place
from nnunet_uhf.inference.features import map_affine, scan_maps
from nnunet_uhf.inference.inputs import Scan
from nnunet_uhf.inference.map_source import MapSource, Prepared
from nnunet_uhf.inference.map_tiles import strides_of
from nnunet_uhf.types import Affine

SMOOTHINGS_MM = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations of the smoothed copies that stand for the neighbourhood of a voxel."""

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
        place = map_affine(scan, prepared, source, (1, 1, 1))
        image = torch.from_numpy(np.ascontiguousarray(prepared.data, dtype=np.float32))
        channels = [image]
        if neighbourhood:
            spacing = np.linalg.norm(place[:3, :3], axis=0)[::-1]
            channels += [each for width in SMOOTHINGS_MM for each in smoothed(image, width / spacing)]
        return _of(source, scan, prepared, [torch.cat(channels)], [place])

    return read


def side_by_side(*readers: Reader) -> Reader:
    """The maps of readers of one preprocessing, one behind the other."""

    def read(scan: Scan) -> PointMaps:
        first, *_ = found = [reader(scan) for reader in readers]
        maps = [one for each in found for one in each.maps]
        affines = [one for each in found for one in each.affines]
        return replace(first, maps=maps, affines=affines)

    return read


def smoothed(image: Tensor, sigma: Sequence[float]) -> tuple[Tensor, Tensor]:
    """An image `(C, Z, Y, X)` behind Gaussians of widths in voxels, and the length of its slope there.

    The Gaussians are scipy's, its borders included, as a matrix along each axis: faster for wide ones, and smoothing
    along two axes serves two slopes.
    """
    (smooth_z, slope_z), (smooth_y, slope_y), (smooth_x, slope_x) = (
        [_gaussian(n, width, order) for order in (0, 1)] for n, width in zip(image.shape[1:], sigma, strict=True)
    )
    along_x, sloped_x = image @ smooth_x.T, image @ slope_x.T
    along_xy = smooth_y @ along_x
    slopes = [
        _first(smooth_z, smooth_y @ sloped_x),
        _first(smooth_z, slope_y @ along_x),
        _first(slope_z, along_xy),
    ]
    return _first(smooth_z, along_xy), torch.stack(slopes).square_().sum(dim=0).sqrt_()


def _gaussian(length: int, sigma: float, order: int) -> Tensor:
    """Scipy's Gaussian of one axis, or its slope, as a matrix `(length, length)`."""
    return torch.from_numpy(ndimage.gaussian_filter1d(np.eye(length, dtype=np.float32), sigma, axis=0, order=order))


def _first(matrix: Tensor, image: Tensor) -> Tensor:
    """A matrix along the first axis in space of an image `(C, Z, Y, X)`."""
    return (matrix @ image.flatten(2)).unflatten(2, image.shape[2:])


def _of(
    source: MapSource, scan: Scan, prepared: Prepared, maps: Sequence[Tensor], affines: Sequence[Affine]
) -> PointMaps:
    place = map_affine(scan, prepared, source, (1, 1, 1))
    stored = read_place(scan[0], nibabel.load(scan[0])).affine
    return PointMaps(maps, affines, tuple(prepared.data.shape[1:]), place, stored)
