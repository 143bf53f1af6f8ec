"""Scans between nibabel and SimpleITK: read with a given voxel size, resample, write with one geometry."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nibabel.affines import voxel_sizes

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import check_nifti_header
from nnunet_uhf.imageio.header import with_one_place
from nnunet_uhf.imageio.nifti import Volume, read_volume, require_right_angles
from nnunet_uhf.types import Affine, FloatArray, Spacing

# nibabel's world is right, anterior, superior; ITK's is left, posterior, superior
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def read_scan(path: Path, *, spacing: Spacing | None = None) -> Volume:
    """A 3D grey-scale scan with contrast.

    Args:
        path: NIfTI file.
        spacing: voxel size in mm along the file's own axes, in place of the stored one (where that is a placeholder).

    Raises:
        UHFError: unreadable, not 3D, coloured, NaN, constant, or a singular or sheared affine.
    """
    volume = read_volume(path)
    check_nifti_header(path, dim=2)
    if volume.data.min() == volume.data.max():
        raise UHFError(f"{path} has the same intensity everywhere: leave the case out or export the scan again")
    require_right_angles(path, volume.affine)
    return with_spacing(volume, spacing)


def with_spacing(volume: Volume, spacing: Spacing | None) -> Volume:
    """The same voxels at another size in mm; the directions of the axes and the place of voxel 0 stay.

    Raises:
        UHFError: a size that is not above 0.
    """
    if spacing is None:
        return volume
    if not all(np.isfinite(size) and size > 0 for size in spacing):
        raise UHFError(f"voxel size {spacing} for {volume.path} is impossible: give three lengths in mm above 0")
    affine = volume.affine.copy()
    affine[:3, :3] *= np.asarray(spacing) / voxel_sizes(affine)
    return dataclasses.replace(volume, affine=affine, other=None, header=with_one_place(volume.header, affine))


def to_sitk(data: npt.NDArray[Any], affine: Affine) -> Any:
    """Array (i, j, k) and its affine as a SimpleITK image of the same place in the world."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    spacing = voxel_sizes(affine)
    image.SetSpacing([float(size) for size in spacing])
    image.SetDirection((RAS_TO_LPS @ (affine[:3, :3] / spacing)).ravel().tolist())
    image.SetOrigin((RAS_TO_LPS @ affine[:3, 3]).tolist())
    return image


def resample(
    data: FloatArray, affine: Affine, *, grid: Volume, transform: Any, nearest: bool = False
) -> npt.NDArray[np.float32]:
    """`data` on the grid of another volume, through a transform from points of the grid to points of the data.

    Cubic B-spline, held inside the range of the data, or nearest neighbour for labels; where the grid leaves the
    data, the value is their minimum. Where the grid is coarser than the data, the data are smoothed first (Gaussian
    of the grid's voxel size, full width at half maximum), so that nothing is aliased.
    """
    image = to_sitk(np.asarray(data, dtype=np.float32), affine)
    if not nearest:
        axes = affine[:3, :3] / voxel_sizes(affine)
        # the grid's step nearest to each axis of the data
        image = without_fine_detail(image, np.abs(axes.T @ grid.affine[:3, :3]).max(axis=1))
    low, high = float(data.min()), float(data.max())
    reference = to_sitk(np.zeros(grid.data.shape, dtype=np.uint8), grid.affine)
    interpolator = sitk.sitkNearestNeighbor if nearest else sitk.sitkBSpline
    moved = sitk.Resample(image, reference, transform, interpolator, low, sitk.sitkFloat32)
    return np.clip(sitk.GetArrayFromImage(moved).T, low, high)


def covered(volume: Volume, *, grid: Volume, transform: Any) -> npt.NDArray[np.bool_]:
    """Which voxels of `grid` the field of view of `volume` reaches."""
    ones = to_sitk(np.ones(volume.data.shape, dtype=np.uint8), volume.affine)
    reference = to_sitk(np.zeros(grid.data.shape, dtype=np.uint8), grid.affine)
    moved = sitk.Resample(ones, reference, transform, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    return sitk.GetArrayFromImage(moved).T > 0


def without_fine_detail(image: Any, steps_mm: npt.ArrayLike) -> Any:
    """A SimpleITK image, smoothed along each axis that is going to be sampled more than 1.2 times as coarsely."""
    steps = np.asarray(steps_mm, dtype=float)
    width = np.where(steps > 1.2 * np.asarray(image.GetSpacing()), steps, 0.0)
    if not width.any():
        return image
    variance = (width / 2.355) ** 2  # full width at half maximum -> sigma
    return sitk.DiscreteGaussian(image, variance.tolist(), 64, 0.01, True)
