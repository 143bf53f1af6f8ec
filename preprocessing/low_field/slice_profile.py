"""Thick slices with gaps: blur and sampling along one axis, the way back, and what happens to the affine.

Both directions are linear maps along one axis, so each is one small matrix and one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_uhf.errors import UHFError
from nnunet_uhf.types import FloatArray

Scalar = TypeVar("Scalar", bound=np.generic)
# FWHM of a Gaussian over its sigma
FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
# beyond five sigma a Gaussian weight is below 4e-6, less than float32 images resolve
KERNEL_RADIUS_SIGMAS = 5.0


@dataclass(frozen=True, kw_only=True)
class SliceProfile:
    """Slice thickness and gap in voxels of the high-field image, along the slice axis.

    Attributes:
        thickness: FWHM of the Gaussian slice profile, > 0.
        gap: unsampled distance between slices, >= 0; thickness + gap is a whole number, the ratio r.

    Raises:
        UHFError: values out of range.

    Source: SIQT (r = 8: 6 + 2, r = 4: 3 + 1).
    """

    thickness: float
    gap: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.thickness) and math.isfinite(self.gap) and self.thickness > 0 <= self.gap):
            raise UHFError(
                f"slice thickness {self.thickness} and gap {self.gap}: use a thickness > 0 and a gap >= 0 voxels"
            )
        total = self.thickness + self.gap
        if round(total) < 1 or not math.isclose(total, round(total), abs_tol=1e-6):
            raise UHFError(f"slice thickness {self.thickness} + gap {self.gap}: the sum must be a whole number")

    @property
    def ratio(self) -> int:
        """Slice distance r in voxels."""
        return round(self.thickness + self.gap)


def slice_count(size: int, profile: SliceProfile) -> int:
    """Number of slices, floor(size / r); UHFError when fewer than two fit."""
    count = size // profile.ratio
    if count < 2:
        raise UHFError(f"{size} voxels along the slice axis hold {count} slices at ratio {profile.ratio}: need two")
    return count


def take_slices(image: FloatArray, profile: SliceProfile, *, axis: int) -> FloatArray:
    """Blur with the slice profile along `axis` and keep voxel k*r for slice k.

    Returns float32 with floor(n / r) voxels along `axis`. At r = 1 a slice is as thick as the voxel, which has had
    that profile since it was measured: the image comes back unchanged.
    """
    return _along(_sampling_matrix(image.shape[axis], profile), image, axis)


def fill_slices(slices: FloatArray, *, ratio: int, size: int, axis: int) -> FloatArray:
    """Cubic spline through slices at voxels k*r, evaluated at voxels 0 .. size-1 along `axis`.

    Behind the last slice, where there is nothing to interpolate, its value is held.
    """
    return _along(_spline_matrix(slices.shape[axis], ratio, size), slices, axis)


@lru_cache(maxsize=64)
def filled_noise_variance(*, size: int, ratio: int) -> float:
    """Mean variance, over the voxels of `fill_slices`, of white noise that has variance 1 on the slices."""
    weights = _spline_matrix(size // ratio, ratio, size).astype(np.float64)
    return float((weights**2).sum(axis=1).mean())


def crop_to_multiple(image: npt.NDArray[Scalar], *, ratio: int, axis: int) -> npt.NDArray[Scalar]:
    """The first floor(n / r) * r voxels along `axis`: the extent that `take_slices` covers."""
    keep = image.shape[axis] // ratio * ratio
    return image[(slice(None),) * (axis % image.ndim) + (slice(keep),)]


def extend_to_multiple(image: npt.NDArray[Scalar], *, ratio: int, axis: int) -> npt.NDArray[Scalar]:
    """An array with ceil(n / r) * r voxels along `axis`, so that its last voxels have a slice, too.

    Mirrored behind the last voxel, as the slice profile does at an edge.
    """
    missing = -image.shape[axis] % ratio
    return np.pad(image, [(0, missing if i == axis % image.ndim else 0) for i in range(image.ndim)], mode="symmetric")


def at_slices(image: npt.NDArray[Scalar], *, ratio: int, axis: int) -> npt.NDArray[Scalar]:
    """Voxels k * r along `axis`, where the slices have their centres: ceil(n / r) of them."""
    return image[(slice(None),) * (axis % image.ndim) + (slice(None, None, ratio),)]


def slice_affine(affine: npt.NDArray[np.float64], *, ratio: int, axis: int) -> npt.NDArray[np.float64]:
    """Affine of thick slices: slice k has its centre where voxel k*r had it."""
    result = np.array(affine, dtype=np.float64)
    result[:3, axis] *= ratio
    return result


@lru_cache(maxsize=64)
def _sampling_matrix(size: int, profile: SliceProfile) -> FloatArray:
    """(slices, size): row k is the profile around voxel k*r, mirrored at the image border, sum 1."""
    count, ratio = slice_count(size, profile), profile.ratio
    if ratio == 1:
        return _frozen(np.eye(size))
    return _frozen(profile_weights(size, [k * ratio for k in range(count)], thickness=profile.thickness))


def profile_weights(size: int, positions: Sequence[float], *, thickness: float) -> npt.NDArray[np.float64]:
    """What a slice at each position sees of the voxels along an axis: `(positions, size)`, rows of sum 1.

    Args:
        size: voxels along the axis; the image is mirrored at its border, with the edge voxel repeated, so that a
            constant image stays constant and nothing wraps around.
        positions: of the middles of slices, in voxels, anywhere.
        thickness: full width at half maximum of the Gaussian profile in voxels, > 0.
    """
    sigma = thickness / FWHM_PER_SIGMA
    radius = math.ceil(KERNEL_RADIUS_SIGMAS * sigma)
    matrix = np.zeros((len(positions), size))
    for row, position in zip(matrix, positions, strict=True):
        voxels = np.arange(math.ceil(position - radius), math.floor(position + radius) + 1)
        weights = np.exp(-0.5 * ((voxels - position) / sigma) ** 2)
        place = voxels % (2 * size)
        np.add.at(row, np.minimum(place, 2 * size - 1 - place), weights / weights.sum())
    return matrix


@lru_cache(maxsize=64)
def _spline_matrix(count: int, ratio: int, size: int) -> FloatArray:
    """(size, slices): column k is the cubic spline that is 1 at slice k and 0 at the others."""
    if ratio == 1 and count == size:
        return _frozen(np.eye(size))
    where = [np.arange(size) / ratio]
    columns = [ndimage.map_coordinates(row, where, order=3, mode="nearest") for row in np.eye(count)]
    return _frozen(np.stack(columns, axis=1))


def _frozen(matrix: npt.NDArray[np.float64]) -> FloatArray:
    """float32 and read-only, since it is shared through the cache."""
    result = matrix.astype(np.float32)
    result.setflags(write=False)
    return result


def _along(matrix: FloatArray, image: FloatArray, axis: int) -> FloatArray:
    """Apply a matrix along one axis of an array."""
    product = np.tensordot(matrix, image.astype(np.float32, copy=False), axes=(1, axis))
    return np.ascontiguousarray(np.moveaxis(product, 0, axis))
