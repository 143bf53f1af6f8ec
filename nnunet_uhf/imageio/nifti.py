"""NIfTI volumes: read, compare, copy and write them, with errors a user can act on."""

from __future__ import annotations

import gzip
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError, UHFWarning
from nnunet_uhf.imageio.files import case_name, require_grey_scale
from nnunet_uhf.imageio.header import as_nifti1, copy_geometry, header_in_mm, same_geometry, stepped
from nnunet_uhf.imageio.opening import (
    UNREADABLE,
    opened,
    require_file,
    require_regular,
    require_sound_header,
    require_voxels_of_a_head,
)
from nnunet_uhf.imageio.place import (
    TOLERANCE_VOXELS,
    Place,
    largest_distance,
    read_place,
    unit_mm,
    warn_of_contradiction,
)
from nnunet_uhf.types import Affine, FloatArray

# Axes that are less than this off a right angle (cosine) are rounding, more is shear.
SHEAR_TOLERANCE = 1e-3


class Grid(NamedTuple):
    """Where voxels lie.

    Attributes:
        shape: (X, Y, Z).
        affine: (4, 4), voxel index to world mm, as nnU-Net reads it.
        other: the same as nibabel reads it; see :class:`nnunet_uhf.imageio.place.Place`.
    """

    shape: tuple[int, int, int]
    affine: Affine
    other: Affine


@dataclass(frozen=True)
class Volume:
    """One 3D NIfTI volume.

    Attributes:
        data: float32 array in the file's own axis order.
        affine: (4, 4), voxel index to world mm, as nnU-Net reads it.
        header: the file's header, a pattern for what is written on the same patient.
        path: where it was read from.
        other: the affine as nibabel reads it; None where it is the same.
    """

    data: FloatArray
    affine: Affine
    header: Any
    path: Path
    other: Affine | None = None

    @property
    def grid(self) -> Grid:
        """Shape and both affines."""
        return Grid(self.data.shape, self.affine, self.affine if self.other is None else self.other)


def read_grid(path: Path) -> Grid:
    """Shape and affine of a 3D NIfTI file, from its header alone; UHFError when it is not one.

    A header that is read in two ways is told in a :class:`nnunet_uhf.errors.UHFWarning`.
    """
    image, place = _open(path)
    return Grid(image.shape[:3], place.affine, place.other)


def read_volume(path: Path) -> Volume:
    """A 3D NIfTI volume as float32; UHFError when unreadable, not 3D, or with NaN or infinite values.

    A header that is read in two ways is told in a :class:`nnunet_uhf.errors.UHFWarning`.
    """
    lazy, place = _open(path)
    try:
        with opened(path) as image:
            data = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except UNREADABLE as error:
        raise UHFError(f"{path} cannot be read, its data are damaged: copy or convert it again") from error
    except MemoryError:
        raise UHFError(f"{path} has shape {lazy.shape}, more than the memory holds: use a larger machine") from None
    if not np.isfinite(data).all():
        raise UHFError(f"{path} contains NaN or infinite values: replace them before using the image")
    return Volume(data.reshape(data.shape[:3]), place.affine, lazy.header, path, place.other)


def write_volume(
    path: Path, data: NDArray[Any], *, header: Any, step: Affine | None = None, dtype: type[np.generic] = np.float32
) -> None:
    """Write a volume in the geometry of a scan's header: both forms, codes and unit stay as they are.

    Args:
        path: where to.
        data: (X, Y, Z); on the grid of the header, or on that of `step`.
        header: gives geometry, unit and description.
        step: (4, 4), voxel index of the data to voxel index of the scan; None for the scan's own grid.
        dtype: how voxels are stored.
    """
    header = as_nifti1(header) if step is None else stepped(as_nifti1(header), step)
    header.set_data_shape(data.shape)
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0  # display range of another image
    nib.save(nib.Nifti1Image(np.asarray(data, dtype=dtype), None, header), path)


def write_labels(path: Path, labels: NDArray[Any], *, header: Any, step: Affine | None = None) -> None:
    """:func:`write_volume` for a label map: uint8, or int16 or int32 where values go beyond."""
    kinds: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int16, np.int32)
    low, high = labels.min(), labels.max()
    dtype = next((one for one in kinds if np.iinfo(one).min <= low and high <= np.iinfo(one).max), np.int32)
    write_volume(path, labels, header=header, step=step, dtype=dtype)


def require_same_grid(first: Path, second: Path) -> None:
    """UHFError unless both files have one shape, one spacing and one place in the world."""
    require_equal_grids(first, read_grid(first), second, read_grid(second))


def require_equal_grids(first: Path, first_grid: Grid, second: Path, second_grid: Grid) -> None:
    """:func:`require_same_grid` for grids that are known already; the paths name them.

    Two files whose headers are read in two ways need to agree in one of them, in which they were made for each other;
    a :class:`nnunet_uhf.errors.UHFWarning` says when they differ in the other.
    """
    if first_grid.shape != second_grid.shape:
        raise UHFError(
            f"{second} has shape {second_grid.shape} but {first} has {first_grid.shape}: resample one to the other's "
            "grid"
        )
    spacing, spacing_b = voxel_sizes(first_grid.affine), voxel_sizes(second_grid.affine)
    tolerance = TOLERANCE_VOXELS * spacing.min()
    if (np.abs(spacing - spacing_b) * (np.asarray(first_grid.shape) - 1)).max() > tolerance:
        sizes = [" x ".join(f"{size:.4g}" for size in each) for each in (spacing_b, spacing)]
        raise UHFError(
            f"{second} and {first} differ in voxel size ({sizes[0]} and {sizes[1]} mm): resample one to the other's "
            "grid"
        )
    offset = largest_distance(first_grid.affine, second_grid.affine, first_grid.shape)
    other = largest_distance(first_grid.other, second_grid.other, first_grid.shape)
    if min(offset, other) > tolerance:
        raise UHFError(
            f"{second} lies {offset:.3g} mm off {first} (affines differ): register or resample it to that grid"
        )
    if max(offset, other) > tolerance:
        readers = ("nnU-Net (ITK)", "nibabel (FSL, nilearn)")
        apart, together = readers if offset > other else readers[::-1]
        warnings.warn(
            f"{second} lies {max(offset, other):.3g} mm off {first} as {apart} reads the headers, and on it as "
            f"{together} does: taken as lying on it",
            UHFWarning,
            stacklevel=1,
        )


def copy_compressed(source: Path, destination: Path, *, pattern: Path | None = None) -> None:
    """Copy a NIfTI file to a .nii.gz path; voxels and header stay byte for byte, plain .nii is compressed.

    Only where nnU-Net or other programs would read something else than is meant, the header is written anew: lengths
    in mm, three dimensions, NIfTI-1, and with ``pattern``, a file on whose grid the source lies, its geometry.
    """
    image = nib.load(source)
    wanted = header_in_mm(image.header if pattern is None else nib.load(pattern).header)
    fits = type(image) is nib.Nifti1Image and len(image.shape) == 3 and unit_mm(image.header) == 1
    if not fits or not same_geometry(image.header, wanted):
        header = as_nifti1(image.header)
        copy_geometry(wanted, header)
        header.set_data_shape(image.shape[:3])
        data = np.asanyarray(image.dataobj).reshape(image.shape[:3])
        header.set_data_dtype(data.dtype if data.dtype.kind in "iu" else np.float32)
        nib.save(nib.Nifti1Image(data, None, header), destination)
    elif source.name.lower().endswith(".gz"):
        shutil.copyfile(source, destination)
    else:
        with source.open("rb") as plain, gzip.open(destination, "wb", compresslevel=3) as packed:
            shutil.copyfileobj(plain, packed)


def require_distinct(files: Mapping[str, Path]) -> None:
    """UHFError when two cases are one file."""
    seen: dict[Path, str] = {}
    for case, path in files.items():
        first = seen.setdefault(path.resolve(), case)
        if first != case:
            raise UHFError(f"{path} is named for case {first} and for case {case}: each case needs its own file")


def require_right_angles(path: Path, affine: Affine) -> None:
    """UHFError for axes that are not at right angles: nnU-Net's reader refuses such files."""
    axes = affine[:3, :3] / voxel_sizes(affine)
    if np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE:
        raise UHFError(f"{path} has a sheared affine: resample it to a grid with right angles first")


def require_volume(path: Path, shape: tuple[int, ...]) -> None:
    """UHFError unless a shape is that of one 3D volume; further axes of length 1 count for nothing."""
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise UHFError(f"{path} has shape {shape}: split it into 3D volumes first")


def _open(path: Path) -> tuple[Any, Place]:
    """Open lazily as 3D NIfTI, and the place of its voxels; a warning where that is read in two ways."""
    require_file(path)
    case_name(path)
    try:
        image = nib.load(path)
    except UNREADABLE as error:
        raise UHFError(f"{path} cannot be read as NIfTI: copy or convert it again") from error
    require_volume(path, image.shape)
    require_grey_scale(path, image.get_data_dtype())
    require_sound_header(path, image)
    place = read_place(path, image)
    require_regular(path, place.affine)
    require_voxels_of_a_head(path, place.affine)
    warn_of_contradiction(path, place, image.shape)
    return image, place
