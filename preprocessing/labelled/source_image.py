"""Images as other projects store them (NIfTI or FreeSurfer's MGH, 4D with one volume) -> plain 3D NIfTI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import UNREADABLE, is_nifti
from nnunet_uhf.imageio.nifti import Grid, require_regular, require_right_angles
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
    """

    data: npt.NDArray[Any]
    affine: Affine
    path: Path
    oriented: bool

    @property
    def grid(self) -> Grid:
        """Shape and affine."""
        return self.data.shape, self.affine


def read_source(path: Path) -> SourceImage:
    """Read one volume; trailing axes of length 1 (as in IBSR) are dropped.

    Raises:
        UHFError: missing, damaged, several volumes, colours, NaN, or a singular or sheared affine.
    """
    if not path.is_file():
        raise UHFError(f"{path} does not exist: check the name and the folder")
    if not is_nifti(path) and not path.name.lower().endswith(MGH_ENDINGS):
        raise UHFError(f"{path} is neither NIfTI nor MGH: convert it to .nii.gz first")
    try:
        image = nib.load(path)
        shape, dtype = image.shape, image.get_data_dtype()
    except UNREADABLE as error:
        raise UHFError(f"{path} cannot be read as an image: copy or convert it again") from error
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise UHFError(f"{path} has shape {shape}: split it into 3D volumes first")
    if dtype.fields is not None or dtype.kind == "c":
        raise UHFError(f"{path} holds colours or complex numbers: give a magnitude image or a label map")
    affine = np.asarray(image.affine, dtype=np.float64)
    require_regular(path, affine)
    require_right_angles(path, affine)
    try:
        data = np.asanyarray(image.dataobj).reshape(shape[:3])
    except UNREADABLE as error:
        raise UHFError(f"{path} cannot be read, its data are damaged: copy or convert it again") from error
    if not np.isfinite(data).all():
        raise UHFError(f"{path} contains NaN or infinite values: replace them before using the image")
    return SourceImage(data, affine, path, _says_sides(image.header))


def write_plain(path: Path, data: npt.NDArray[Any], affine: Affine) -> None:
    """Write a 3D NIfTI whose sform and qform both say `affine`, so that every program reads the same place.

    Nothing of the source's header goes along: it may hold names and dates.
    """
    native = data.dtype.newbyteorder("=")
    kept = native if any(native == np.dtype(kind) for kind in KEPT_TYPES) else np.dtype(np.float32)
    image = nib.Nifti1Image(np.ascontiguousarray(data, dtype=kept), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _says_sides(header: Any) -> bool:
    """Whether the header holds a geometry, as NIfTI's codes and MGH's flag say."""
    if "goodRASFlag" in header:
        return bool(header["goodRASFlag"])
    return bool(header["sform_code"]) or bool(header["qform_code"])
