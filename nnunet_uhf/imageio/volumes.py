"""Volumes that are only read: NIfTI, and the other formats that nnU-Net's SimpleITK reader takes (.nrrd, .mha, .gipl).

A model of a dataset with ``"file_ending": ".nrrd"`` validates into such files. What this package writes is NIfTI.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError, first_line
from nnunet_uhf.imageio import nifti
from nnunet_uhf.imageio.files import ENDINGS, case_files, case_name, nifti_of
from nnunet_uhf.imageio.label_maps import whole_numbers
from nnunet_uhf.imageio.nifti import Grid, Volume, require_equal_grids
from nnunet_uhf.imageio.opening import require_file
from nnunet_uhf.imageio.place import LPS_TO_RAS, quiet_itk
from nnunet_uhf.types import Affine

#: Of files that nnU-Net's SimpleITK reader takes beside NIfTI.
OTHER_ENDINGS = tuple(ending for ending in SimpleITKIO.supported_file_endings if ending not in ENDINGS)
ALL_ENDINGS = (*ENDINGS, *OTHER_ENDINGS)


def volume_files(folder: Path) -> dict[str, Path]:
    """The volumes of a folder by case, as :func:`nnunet_uhf.imageio.files.case_files`, of all these formats."""
    return case_files(folder, ALL_ENDINGS)


def volume_name(path: Path) -> str:
    """The name of a volume's case, as :func:`nnunet_uhf.imageio.files.case_name`, of all these formats."""
    return case_name(path, ALL_ENDINGS)


def volume_of(folder: Path, name: str) -> Path | None:
    """The volume of a case in a folder; None when there is none. NIfTI goes before the others."""
    found = nifti_of(folder, name)
    others = (folder / f"{name}{ending}" for ending in OTHER_ENDINGS)
    return found or next((path for path in others if path.is_file()), None)


def read_any_volume(path: Path) -> Volume:
    """A 3D volume (X, Y, Z) as float32; UHFError as :func:`nnunet_uhf.imageio.nifti.read_volume`."""
    if not path.name.lower().endswith(OTHER_ENDINGS):
        return nifti.read_volume(path)
    require_file(path)
    try:
        with quiet_itk():
            array, properties = SimpleITKIO().read_images([str(path)])
    except RuntimeError as error:
        raise UHFError(f"{path} cannot be read ({first_line(error, kind=False)}): copy or convert it again") from error
    if len(array) != 1:
        raise UHFError(f"{path} holds {len(array)} images: split it into 3D volumes first")
    if not np.isfinite(array).all():
        raise UHFError(f"{path} contains NaN or infinite values: replace them before using the image")
    geometry = properties["sitk_stuff"]
    size = len(geometry["spacing"])
    affine = np.eye(4)
    affine[:size, :size] = np.asarray(geometry["direction"]).reshape(size, size) * geometry["spacing"]
    affine[:size, 3] = geometry["origin"]
    affine = LPS_TO_RAS @ affine
    data = array[0].T
    return Volume(data, affine, nibabel.Nifti1Image(data[:1, :1, :1], affine).header, path)


def read_any_grid(path: Path) -> Grid:
    """Shape and affine of a 3D volume."""
    return read_any_volume(path).grid if path.name.lower().endswith(OTHER_ENDINGS) else nifti.read_grid(path)


def require_any_same_grid(first: Path, second: Path) -> None:
    """UHFError unless both files have one shape, one spacing and one place in the world."""
    require_equal_grids(first, read_any_grid(first), second, read_any_grid(second))


def read_any_labels(path: Path) -> tuple[NDArray[np.int32], Affine]:
    """A label map (X, Y, Z) and its affine (4, 4); UHFError as :func:`nnunet_uhf.imageio.label_maps.read_labels`."""
    volume = read_any_volume(path)
    return whole_numbers(path, volume.data), volume.affine
