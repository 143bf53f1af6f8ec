"""Stacks of a few matching slices: each slice registered in its own plane, by index."""

from __future__ import annotations

import dataclasses
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.affines import voxel_sizes

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import Volume
from nnunet_uhf.preprocessing.pairing.geometry import without_fine_detail
from nnunet_uhf.preprocessing.pairing.registration import MotionKind, register
from nnunet_uhf.types import FloatArray


def aligned_stacks(first: Volume, second: Volume) -> tuple[Volume, int]:
    """The second stack with its array axes turned as the first's, and the array axis across the slices.

    The slices are across the shortest axis of the first. No voxel is interpolated.

    Raises:
        UHFError: unequal numbers of slices, or stacks cut in different planes.
    """
    turn = nib.orientations.ornt_transform(nib.io_orientation(second.affine), nib.io_orientation(first.affine))
    data = nib.orientations.apply_orientation(second.data, turn)
    affine = second.affine @ nib.orientations.inv_ornt_aff(turn, second.data.shape)
    axis = int(np.argmin(first.data.shape))
    if int(np.argmin(data.shape)) != axis:
        raise UHFError(f"{second.path} is cut in another plane than {first.path}: register in 3D, without --slicewise")
    if data.shape[axis] != first.data.shape[axis]:
        raise UHFError(
            f"{second.path} has {data.shape[axis]} slices but {first.path} has {first.data.shape[axis]}: "
            "keep the matching ones"
        )
    return dataclasses.replace(second, data=np.ascontiguousarray(data), affine=affine, other=None), axis


def register_slices(fixed: Volume, moving: Volume, *, axis: int, kind: MotionKind, seed: int) -> list[Any]:
    """One 2D transform for each slice, from points of the fixed to points of the moving slice.

    Coordinates are mm in the slice, from its centre along the array axes: the place of a slice in the world does
    not count, as placeholders there would mislead.
    """
    return [
        register(plane(fixed, axis, index), plane(moving, axis, index), kind=kind, seed=seed)
        for index in range(fixed.data.shape[axis])
    ]


def resample_slices(
    volume: Volume,
    data: FloatArray,
    *,
    grid: Volume,
    axis: int,
    transforms: list[Any],
    nearest: bool = False,
    outside: float | None = None,
) -> FloatArray:
    """`data` (on the grid of `volume`), slice by slice, on the slices of `grid`; see `geometry.resample`.

    Where the slices of the grid are coarser, those of the data are smoothed first, in their plane. Beyond the field of
    view the value is `outside`, or the minimum of the data.
    """
    moved = np.empty(grid.data.shape, dtype=np.float32)
    outside = float(data.min()) if outside is None else outside
    low, high = min(float(data.min()), outside), float(data.max())
    source = dataclasses.replace(volume, data=np.asarray(data, dtype=np.float32))
    interpolator = sitk.sitkNearestNeighbor if nearest else sitk.sitkBSpline
    for index, transform in enumerate(transforms):
        image, reference = plane(source, axis, index), plane(grid, axis, index)
        if not nearest:
            image = without_fine_detail(image, reference.GetSpacing())
        found = sitk.Resample(image, reference, transform, interpolator, outside, sitk.sitkFloat32)
        where = [slice(None)] * 3
        where[axis] = index  # type: ignore[call-overload]
        moved[tuple(where)] = np.clip(sitk.GetArrayFromImage(found).T, low, high)
    return moved


def plane(volume: Volume, axis: int, index: int) -> Any:
    """One slice as a 2D SimpleITK image around the origin."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.take(volume.data, index, axis=axis).T))
    spacing = np.delete(voxel_sizes(volume.affine), axis)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((-(np.asarray(image.GetSize()) - 1) / 2 * spacing).tolist())
    return image
