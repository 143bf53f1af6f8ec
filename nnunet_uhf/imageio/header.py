"""The geometry in NIfTI headers: sform, qform, their codes and the unit, kept together when images are written."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import HeaderDataError

from nnunet_uhf.imageio.place import unit_mm
from nnunet_uhf.types import Affine

_LENGTHS = ("srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z")
_CODES = ("sform_code", "qform_code")
_TURNS = ("quatern_b", "quatern_c", "quatern_d")


def stepped(header: Any, step: Affine) -> Any:
    """A header for another grid of the same scan: both forms moved alike, codes and unit kept.

    Args:
        header: the scan's.
        step: (4, 4), voxel index of the new grid to voxel index of the scan; axes are not turned.
    """
    changed = header.copy()
    sform_code, qform_code = (int(header[name]) for name in _CODES)
    changed.set_sform(header.get_sform() @ step, code=sform_code)
    try:
        changed.set_qform(header.get_qform() @ step, code=qform_code)  # sets pixdim, too
    except (HeaderDataError, ValueError):  # no quaternion: what nobody reads need not be one
        changed["pixdim"][1:4] *= np.linalg.norm(step[:3, :3], axis=0)
    return changed


def with_one_place(header: Any, affine: Affine) -> Any:
    """A header whose two forms both say `affine` (4, 4), in mm."""
    changed = header.copy()
    code = int(header["sform_code"]) or int(header["qform_code"]) or 1
    changed.set_sform(affine, code=code)
    changed.set_qform(affine, code=code)
    _set_mm(changed)
    return changed


def header_in_mm(header: Any) -> Any:
    """The same header with all lengths in mm."""
    changed = header.copy()
    factor = unit_mm(header)
    if factor != 1:
        changed["pixdim"][1:4] *= factor
        for name in _LENGTHS:
            changed[name] *= factor
    _set_mm(changed)
    return changed


def as_nifti1(header: Any) -> Any:
    """A copy of a header for a NIfTI-1 file, the format that every reader knows."""
    return header.copy() if type(header) is nibabel.Nifti1Header else geometry_of(header)


def geometry_of(header: Any) -> Any:
    """A new header with the geometry of another one, in mm, and nothing else of it: it may hold names and dates."""
    plain = nibabel.Nifti1Header()
    copy_geometry(header_in_mm(header), plain)
    return plain


def copy_geometry(source: Any, target: Any) -> None:
    """Write the forms, codes and unit of one NIfTI header into another one of the same shape."""
    for name in (*_LENGTHS, *_CODES, *_TURNS, "xyzt_units"):
        target[name] = source[name]
    target["pixdim"][:4] = source["pixdim"][:4]


def same_geometry(first: Any, second: Any) -> bool:
    """Whether two headers say the same place in both forms, with the same codes and unit, up to rounding."""
    if any(int(first[name]) != int(second[name]) for name in _CODES) or unit_mm(first) != unit_mm(second):
        return False
    size = float(voxel_sizes(first.get_best_affine()).min())
    one, other = (
        np.concatenate([np.ravel(each[name]) for name in (*_LENGTHS, *_TURNS)] + [each["pixdim"][:4]])
        for each in (first, second)
    )
    return np.allclose(one, other, rtol=1e-6, atol=1e-5 * size)


def _set_mm(header: Any) -> None:
    header.set_xyzt_units("mm", header.get_xyzt_units()[1])
