"""Opening NIfTI files so that what is damaged, cut short or not there at all is told in one line."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from nnunet_uhf.errors import UHFError
from nnunet_uhf.types import Affine

#: What nibabel raises on files that are damaged, cut short, or something else.
UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, OverflowError, zlib.error)
#: How the small files begin that git-annex (DataLad) and Git LFS keep in place of large ones, and what fetches those.
POINTERS = {b"/annex/objects/": "datalad get", b"version https://git-lfs": "git lfs pull --include"}
POINTER_BYTES = 1024  # such a file is a line or three of text
CHUNK_BYTES = 1 << 20
#: No compression of a .gz goes further.
MAX_DEFLATION = 1040
#: A head is four such voxels wide (mm): the unit is a wrong one, or the file no scan of a head.
LARGEST_VOXEL_MM = 50.0


def require_file(path: Path) -> None:
    """UHFError when a file does not exist, is only the stand-in of one not fetched, or has a name that ends ITK."""
    shown = str(path).encode("utf-8", errors="replace").decode("utf-8")
    if shown != str(path):  # bytes that are no text: ITK, nnU-Net's reader, ends the whole process
        raise UHFError(f"{shown} has a name that is not UTF-8: rename file or folder")
    if path.is_file():
        if path.stat().st_size <= POINTER_BYTES:
            start = path.read_bytes()
            for mark, command in POINTERS.items():
                if start.startswith(mark):
                    raise UHFError(f"{path} is a pointer to a file that is not here: fetch it ({command} {path})")
        return
    if path.is_symlink():
        raise UHFError(f"{path} is a link to a file that is not here: fetch it (datalad get {path}) or mend the link")
    raise UHFError(f"{path} does not exist: check the name and the folder")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A NIfTI (or MGH) file as nibabel has it; when the block ends well, the checksum of a .gz has been looked at.

    nibabel itself stops reading at the last voxel, so that a damaged or cut end of a compressed file goes unnoticed.
    Raises what is in :data:`UNREADABLE`.
    """
    image = nibabel.load(path)
    if path.suffix.lower() not in (".gz", ".mgz"):
        yield image
        return
    with gzip.open(path) as stream:
        yield type(image).from_stream(stream)
        while stream.read(CHUNK_BYTES):
            pass


def require_sound_header(path: Path, image: Any) -> None:
    """UHFError for a header that cannot be that of this file: its size, or its geometry.

    Args:
        path: the file.
        image: the same as nibabel has opened it; its voxels are not read.
    """
    shape = image.shape
    if len(shape) < 2 or min(shape) < 1:
        raise UHFError(f"{path} has shape {shape}: its header is damaged, copy or convert it again")
    size, packed = path.stat().st_size, path.suffix.lower() in (".gz", ".mgz")
    claimed = math.prod(map(int, shape)) * image.get_data_dtype().itemsize
    if claimed > size * (MAX_DEFLATION if packed else 1):
        raise UHFError(f"{path} has shape {shape} in its header, too much for {size} bytes: copy or convert it again")
    require_regular(path, image.affine)


def require_regular(path: Path, affine: Affine) -> None:
    """UHFError when the affine maps the volume onto a plane, or holds values that are not finite."""
    if not np.isfinite(affine).all():
        raise UHFError(f"{path} has an affine with NaN or infinite values: repair the geometry in its header")
    if not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * voxel_sizes(affine).prod():
        raise UHFError(f"{path} has a singular affine: repair the geometry in its header")


def require_voxels_of_a_head(path: Path, affine: Affine) -> None:
    """UHFError when voxels of an affine in mm are larger than those of any scan of a head."""
    largest = float(voxel_sizes(affine).max())
    if largest > LARGEST_VOXEL_MM:
        raise UHFError(f"{path} has voxels of {largest:.4g} mm: correct unit and voxel size in its header")
