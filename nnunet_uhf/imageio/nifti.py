"""NIfTI volumes: read, compare, copy and write them, with errors a user can act on."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.affines import apply_affine, voxel_sizes

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import UNREADABLE, case_name, require_grey_scale
from nnunet_uhf.types import Affine, FloatArray

Grid = tuple[tuple[int, int, int], Affine]
# A grid that is off by less than this part of a voxel is the same grid stored with rounding.
GRID_TOLERANCE_VOXELS = 0.05
# Axes that are less than this off a right angle (cosine) are rounding, more is shear.
SHEAR_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Volume:
    """One 3D NIfTI volume.

    Attributes:
        data: float32 array in the file's own axis order.
        affine: (4, 4), voxel index to world mm.
        header: the file's header, a pattern for what is written on the same patient.
        path: where it was read from.
    """

    data: FloatArray
    affine: Affine
    header: Any
    path: Path


def read_grid(path: Path) -> Grid:
    """Shape and affine of a 3D NIfTI file, from its header alone; UHFError when it is not one."""
    image = _open(path)
    return image.shape, np.asarray(image.affine, dtype=np.float64)


def read_volume(path: Path) -> Volume:
    """A 3D NIfTI volume as float32; UHFError when unreadable, not 3D, or with NaN or infinite values."""
    image = _open(path)
    try:
        data = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except UNREADABLE as error:
        raise UHFError(f"{path} cannot be read, its data are damaged: copy or convert it again") from error
    if not np.isfinite(data).all():
        raise UHFError(f"{path} contains NaN or infinite values: replace them before using the image")
    return Volume(data, np.asarray(image.affine, dtype=np.float64), image.header, path)


def require_whole_numbers(volume: Volume) -> None:
    """UHFError when a label map holds anything else."""
    if (volume.data != np.round(volume.data)).any():
        raise UHFError(f"{volume.path} holds values that are not whole numbers: give a label map, not an image")


def write_volume(path: Path, data: FloatArray, affine: Affine, *, header: Any) -> None:
    """Write float32 data; `header` gives units, codes and description, the affine goes to sform and qform."""
    _write(path, np.asarray(data, dtype=np.float32), affine, header.copy())


def write_labels(path: Path, labels: npt.NDArray[Any], affine: Affine, *, header: Any) -> None:
    """Write a label map as uint8, or int16 where values go beyond, otherwise as :func:`write_volume`."""
    dtype = np.uint8 if labels.min() >= 0 and labels.max() < 256 else np.int16
    header = header.copy()
    header.set_slope_inter(1, 0)
    _write(path, labels.astype(dtype), affine, header)


def _write(path: Path, data: npt.NDArray[Any], affine: Affine, header: Any) -> None:
    """Write an array in its own type, with a header that is changed."""
    header.set_data_dtype(data.dtype)
    header["cal_min"] = header["cal_max"] = 0  # display range of another image
    image = nib.Nifti1Image(data, affine, header)
    code = int(header["sform_code"]) or int(header["qform_code"]) or 1
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nib.save(image, path)


def require_same_grid(first: Path, second: Path) -> None:
    """UHFError unless both files have one shape, one spacing and one place in the world."""
    require_equal_grids(first, read_grid(first), second, read_grid(second))


def require_equal_grids(first: Path, first_grid: Grid, second: Path, second_grid: Grid) -> None:
    """:func:`require_same_grid` for grids (shape, affine) that are known already; the paths name them."""
    (shape_a, affine_a), (shape_b, affine_b) = first_grid, second_grid
    if shape_a != shape_b:
        raise UHFError(f"{second} has shape {shape_b} but {first} has {shape_a}: resample one to the other's grid")
    spacing = voxel_sizes(affine_a)
    # nnU-Net's own check of images against labels is np.allclose on the spacing
    if not np.allclose(spacing, voxel_sizes(affine_b)):
        raise UHFError(f"{second} and {first} differ in voxel size: resample one to the other's grid")
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape_a], indexing="ij"), -1).reshape(-1, 3)
    offset = np.abs(apply_affine(affine_a, corners) - apply_affine(affine_b, corners)).max()
    if offset > GRID_TOLERANCE_VOXELS * spacing.min():
        raise UHFError(
            f"{second} lies {offset:.3g} mm off {first} (affines differ): register or resample it to that grid"
        )


def says_one_geometry(path: Path, affine: Affine) -> bool:
    """Whether sform and qform of a file both say `affine`; where not, programs read it in different places."""
    header = nib.load(path).header
    stated = [form for form, code in (header.get_sform(coded=True), header.get_qform(coded=True)) if code]
    return len(stated) > 0 and all(np.allclose(form, affine, atol=1e-3) for form in stated)


def copy_compressed(source: Path, destination: Path) -> None:
    """Copy a NIfTI file to a .nii.gz path; voxels and header stay byte for byte, plain .nii is compressed.

    A header that names no place, or two, gets the one that nibabel reads, as files have it that are made of such scans:
    other programs would see the two apart.
    """
    image = nib.load(source)
    if not says_one_geometry(source, image.affine):
        placed = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header)
        placed.set_sform(image.affine, code=1)
        placed.set_qform(image.affine, code=1)
        nib.save(placed, destination)
        return
    if source.name.lower().endswith(".gz"):
        shutil.copyfile(source, destination)
        return
    with source.open("rb") as plain, gzip.open(destination, "wb", compresslevel=3) as packed:
        shutil.copyfileobj(plain, packed)


def require_distinct(files: Mapping[str, Path]) -> None:
    """UHFError when two cases are one file."""
    seen: dict[Path, str] = {}
    for case, path in files.items():
        first = seen.setdefault(path.resolve(), case)
        if first != case:
            raise UHFError(f"{path} is named for case {first} and for case {case}: each case needs its own file")


def require_regular(path: Path, affine: Affine) -> None:
    """UHFError when the affine maps the volume onto a plane, or holds NaN."""
    if not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * voxel_sizes(affine).prod():
        raise UHFError(f"{path} has a singular affine: repair the geometry in its header")


def require_right_angles(path: Path, affine: Affine) -> None:
    """UHFError for axes that are not at right angles: nnU-Net's reader refuses such files."""
    axes = affine[:3, :3] / voxel_sizes(affine)
    if np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE:
        raise UHFError(f"{path} has a sheared affine: resample it to a grid with right angles first")


def _open(path: Path) -> Any:
    """Open lazily as 3D NIfTI."""
    if not path.is_file():
        raise UHFError(f"{path} does not exist: check the name and the folder")
    case_name(path)
    try:
        image = nib.load(path)
    except UNREADABLE as error:
        raise UHFError(f"{path} cannot be read as NIfTI: copy or convert it again") from error
    if len(image.shape) != 3:
        raise UHFError(f"{path} has shape {image.shape}: split it into 3D volumes first")
    require_grey_scale(path, image.get_data_dtype())
    require_regular(path, image.affine)
    return image
