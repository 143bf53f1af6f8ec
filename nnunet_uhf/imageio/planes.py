"""Axial, coronal and sagittal: slices of volumes and the world axes they run along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from nnunet_uhf.types import Affine

# plane -> (axis through it, axis shown to the right, axis shown upwards, mark left, right, top, bottom) in RAS.
# Right and anterior point to the left of a picture.
PLANES = {
    "axial": (2, 0, 1, "R", "L", "A", "P"),
    "coronal": (1, 0, 2, "R", "L", "S", "I"),
    "sagittal": (0, 1, 2, "A", "P", "S", "I"),
}


THIN = 8  # with fewer voxels along an axis, the planes across it would be bands: several slices are shown instead


Plane = NDArray[Any]


Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Slice:
    """One slice of a volume: the name of its plane and its index along the axis through the plane (RAS)."""

    plane: str
    index: int


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
    axis, *_ = PLANES[where.plane]
    # what is left are the axes shown to the left and upwards, in this order, in every plane
    return np.asarray(np.take(volume, where.index, axis=axis).T[::-1, ::-1])
