"""Images as other projects store them (NIfTI or FreeSurfer's MGH, 4D with one volume) -> plain 3D NIfTI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import is_nifti
from nnunet_uhf.imageio.header import geometry_of, with_one_place
from nnunet_uhf.imageio.nifti import Grid, require_right_angles, require_volume, write_volume
from nnunet_uhf.imageio.opening import (
    UNREADABLE,
    opened,
    require_file,
    require_regular,
    require_sound_header,
    require_voxels_of_a_head,
)
from nnunet_uhf.imageio.place import Place, read_place, warn_of_contradiction
from nnunet_uhf.types import Affine

MGH_ENDINGS = (".mgz", ".mgh")
#: Stored as they are; everything else becomes float32, which nnU-Net reads it as anyway.
KEPT_TYPES = (np.uint8, np.int16, np.uint16, np.int32, np.float32)


@dataclass(frozen=True)
class SourceImage:
    """One volume of a source.

    Attributes:
        data: 3D array in the file's own axis order, finite.
        affine: (4, 4), voxel index to world mm (right, anterior, superior).
        path: where it was read from.
        oriented: whether the file says which side is left; where not, the affine is only a convention.
        geometry: NIfTI header with both forms of the place in mm, and nothing else of the source's.
        other: the affine as nibabel reads it.
    """

    data: npt.NDArray[Any]
    affine: Affine
    path: Path
    oriented: bool
    geometry: nib.Nifti1Header
    other: Affine

    @property
    def grid(self) -> Grid:
        """Shape and both affines."""
        return Grid(self.data.shape, self.affine, self.other)


def read_source(path: Path) -> SourceImage:
    """Read one volume; trailing axes of length 1 (as in IBSR) are dropped.

    Raises:
        UHFError: missing, damaged, several volumes, colours, NaN, or a singular or sheared affine.
    """
    require_file(path)
    if not is_nifti(path) and not path.name.lower().endswith(MGH_ENDINGS):
        raise UHFError(f"{path} is neither NIfTI nor MGH: convert it to .nii.gz first")
    try:
        image = nib.load(path)
        shape, dtype = image.shape, image.get_data_dtype()
    except UNREADABLE as error:
        raise UHFError(f"{path} cannot be read as an image: copy or convert it again") from error
    require_volume(path, shape)
    if dtype.fields is not None or dtype.kind == "c":
        raise UHFError(f"{path} holds colours or complex numbers: give a magnitude image or a label map")
    require_sound_header(path, image)
    place = read_place(path, image)
    require_regular(path, place.affine)
    require_voxels_of_a_head(path, place.affine)
    require_right_angles(path, place.affine)
    warn_of_contradiction(path, place, shape)
    try:
        with opened(path) as whole:
            data = np.asanyarray(whole.dataobj).reshape(shape[:3])
    except UNREADABLE as error:
        raise UHFError(f"{path} cannot be read, its data are damaged: copy or convert it again") from error
    if not np.isfinite(data).all():
        raise UHFError(f"{path} contains NaN or infinite values: replace them before using the image")
    return SourceImage(data, place.affine, path, _says_sides(image.header), _geometry(image.header, place), place.other)


def write_plain(path: Path, data: npt.NDArray[Any], geometry: nib.Nifti1Header) -> None:
    """Write a 3D NIfTI with the geometry of a source, which every program reads as it reads the source.

    Nothing else of the source's header goes along: it may hold names and dates.
    """
    native = data.dtype.newbyteorder("=")
    kept = native if any(native == np.dtype(kind) for kind in KEPT_TYPES) else np.dtype(np.float32)
    write_volume(path, np.ascontiguousarray(data), header=geometry, dtype=kept.type)


def _geometry(header: Any, place: Place) -> nib.Nifti1Header:
    """Both forms of a NIfTI header in mm; of MGH, which has one, that one in both."""
    if "sform_code" in header:
        return geometry_of(header)
    return with_one_place(nib.Nifti1Header(), place.affine)


def _says_sides(header: Any) -> bool:
    """Whether the header holds a geometry, as NIfTI's codes and MGH's flag say."""
    if "goodRASFlag" in header:
        return bool(header["goodRASFlag"])
    return bool(header["sform_code"]) or bool(header["qform_code"])
