"""Axial, coronal and sagittal: slices of volumes and the world axes they run along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.types import Affine, Spacing

THIN = 8  # with fewer voxels along an axis, the planes across it would be bands: several slices are shown instead
Plane = NDArray[Any]
MARGIN_MM = 8.0  # around what is shown
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class PlaneAxes:
    """How the slices of a plane lie in the patient; axes are 0 right, 1 anterior, 2 superior, as in nibabel's world.

    Attributes:
        normal: the axis that runs through the slices.
        across: the axis along the rows of a picture; right and anterior point to its left.
        up: the axis that points to the top of a picture.
        marks: letters of the directions at a picture's left, right, top and bottom.
    """

    normal: int
    across: int
    up: int
    marks: tuple[str, str, str, str]


PLANES = {
    "axial": PlaneAxes(normal=2, across=0, up=1, marks=("R", "L", "A", "P")),
    "coronal": PlaneAxes(normal=1, across=0, up=2, marks=("R", "L", "S", "I")),
    "sagittal": PlaneAxes(normal=0, across=1, up=2, marks=("A", "P", "S", "I")),
}


@dataclass(frozen=True)
class Slice:
    """One slice of a volume: the name of its plane and its index along the axis through the plane (RAS)."""

    plane: str
    index: int


def check_axis(axis: str) -> None:
    """UHFError unless `axis` names a plane, or an array axis of a 3D image: 0, 1 or 2."""
    if axis not in (*PLANES, "0", "1", "2"):
        raise UHFError(f"slice axis is {axis!r}: use {', '.join(PLANES)}, or an array axis 0, 1, 2")


def slice_axis(affine: Affine, axis: str) -> int:
    """Array axis that runs through the slices of a plane: the one nearest to its normal; a number stands for itself.

    Args:
        affine: (4, 4), voxel index to world mm.
        axis: `axial`, `coronal`, `sagittal`, `0`, `1` or `2`.

    Raises:
        UHFError: neither a plane nor 0, 1, 2.
    """
    check_axis(axis)
    if axis not in PLANES:
        return int(axis)
    return int(np.flatnonzero(io_orientation(affine)[:, 0] == PLANES[axis].normal)[0])


def plane_across(axis: int) -> str:
    """Name of the plane whose normal is an axis (0 right, 1 anterior, 2 superior)."""
    return next(name for name, plane in PLANES.items() if plane.normal == axis)


def standard_axes(volume: NDArray[Any], affine: Affine) -> tuple[NDArray[Any], Affine]:
    """The volume (X, Y, Z) and its affine (4, 4) with axes flipped and permuted to the nearest RAS."""
    orientation = io_orientation(affine)
    return apply_orientation(volume, orientation), affine @ inv_ornt_aff(orientation, volume.shape)


def standard_spacing(affine: Affine, shape: Sequence[int]) -> Spacing:
    """Voxel size in mm along right, anterior, superior of a volume of this affine (4, 4) and shape."""
    standard = affine @ inv_ornt_aff(io_orientation(affine), shape)
    right, anterior, superior = (float(size) for size in voxel_sizes(standard))
    return right, anterior, superior


def cut(volume: NDArray[Any], where: Slice) -> NDArray[Any]:
    """The slice (rows, columns) as it is shown: first row at the top, the patient's right or front at the left."""
    axis = PLANES[where.plane].normal
    # what is left are the axes shown to the left and upwards, in this order, in every plane
    return np.asarray(np.take(volume, where.index, axis=axis).T[::-1, ::-1])


def box_around(mask: NDArray[np.bool_], spacing_mm: Sequence[float], *, margin_mm: float = MARGIN_MM) -> Box:
    """The bounding box of a mask (X, Y, Z) with a margin, inside the volume; all of it where the mask is empty."""
    where = np.argwhere(mask)
    if not len(where):
        return slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2])
    margin = np.ceil(margin_mm / np.array(spacing_mm)).astype(int)
    low = np.maximum(where.min(axis=0) - margin, 0)
    high = np.minimum(where.max(axis=0) + 1 + margin, mask.shape)
    first, second, third = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return first, second, third
