"""The way from one scan of a pair to the grid of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import Volume, require_equal_grids
from nnunet_uhf.preprocessing.pairing.geometry import covered, resample, to_sitk
from nnunet_uhf.preprocessing.pairing.registration import Motion, MotionKind, centre, motion, register
from nnunet_uhf.preprocessing.pairing.slicewise import (
    aligned_stacks,
    plane,
    register_slices,
    resample_slices,
)
from nnunet_uhf.types import FloatArray, Mask


@dataclass(frozen=True)
class Link:
    """Two scans and the transforms from points of the reference to points of the other.

    Attributes:
        reference: the scan whose grid both get; its voxels stay as they are.
        moving: the other scan; slicewise with its array axes turned as the reference's.
        transforms: one 3D transform; slicewise one 2D transform a slice; none when the grids are one already.
        axis: array axis across the slices when slicewise.
    """

    reference: Volume
    moving: Volume
    transforms: list[Any]
    axis: int | None = None

    def bring(self, data: FloatArray, *, nearest: bool = False) -> FloatArray:
        """`data` on the grid of the moving scan -> on the grid of the reference."""
        return self._through(self.transforms, data, nearest=nearest)

    def before(self) -> FloatArray:
        """The moving scan on the reference's grid where the headers put it (slicewise: slice centres coincide)."""
        dimension = 3 if self.axis is None else 2
        return self._through([sitk.AffineTransform(dimension) for _ in self.transforms], self.moving.data)

    def reach(self) -> Mask:
        """Voxels of the reference that the moving scan's field of view covers."""
        if not self.transforms:
            return np.ones(self.reference.data.shape, dtype=bool)
        if self.axis is None:
            return covered(self.moving, grid=self.reference, transform=self.transforms[0])
        ones = np.ones(self.moving.data.shape, dtype=np.float32)
        inside = resample_slices(
            self.moving,
            ones,
            grid=self.reference,
            axis=self.axis,
            transforms=self.transforms,
            nearest=True,
            outside=0.0,
        )
        return inside > 0

    def motions(self) -> list[Motion]:
        """What each transform does at the centre of its foreground."""
        if not self.transforms:
            return [Motion(0.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))]
        if self.axis is None:
            return [motion(self.transforms[0], centre(to_sitk(self.reference.data, self.reference.affine)))]
        return [
            motion(transform, centre(plane(self.reference, self.axis, index)))
            for index, transform in enumerate(self.transforms)
        ]

    def matrices(self) -> list[list[list[float]]]:
        """Each transform as a homogeneous matrix in ITK's coordinates, mm."""
        return [_matrix(transform).tolist() for transform in self.transforms]

    def _through(self, transforms: list[Any], data: FloatArray, *, nearest: bool = False) -> FloatArray:
        if not transforms:
            return data
        if self.axis is None:
            return resample(data, self.moving.affine, grid=self.reference, transform=transforms[0], nearest=nearest)
        return resample_slices(
            self.moving, data, grid=self.reference, axis=self.axis, transforms=transforms, nearest=nearest
        )


def connect(reference: Volume, moving: Volume, *, kind: MotionKind, slicewise: bool, seed: int) -> Link:
    """Register a pair.

    Args:
        reference: scan that keeps its grid.
        moving: scan that is brought there.
        kind: `rigid`, `affine`, or `none` for scans that share a grid; then nothing is resampled.
        slicewise: register slice k with slice k, each in its plane.
        seed: of the metric's sample.

    Raises:
        UHFError: registration fails, unequal grids with `none`, stacks that do not match with `slicewise`.
    """
    if kind == "none":
        require_equal_grids(
            reference.path,
            reference.grid,
            moving.path,
            moving.grid,
        )
        return Link(reference, moving, [])
    axis = None
    if slicewise:
        moving, axis = aligned_stacks(reference, moving)
    try:
        if axis is not None:
            transforms = register_slices(reference, moving, axis=axis, kind=kind, seed=seed)
        else:
            images = (to_sitk(scan.data, scan.affine) for scan in (reference, moving))
            transforms = [register(*images, kind=kind, seed=seed)]
    except UHFError as error:
        raise UHFError(f"{moving.path} cannot be registered to {reference.path}: {error}") from error
    return Link(reference, moving, transforms, axis)


def _matrix(transform: Any) -> npt.NDArray[np.float64]:
    """Homogeneous matrix of an affine transform."""
    dimension = transform.GetDimension()
    matrix = np.eye(dimension + 1)
    matrix[:-1, :-1] = np.asarray(transform.GetMatrix()).reshape(dimension, dimension)
    matrix[:-1, -1] = transform.TransformPoint([0.0] * dimension)
    return matrix
