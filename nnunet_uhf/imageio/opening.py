"""Opening NIfTI files so that what is damaged, cut short or not there at all is told in one line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from nnunet_uhf.errors import UHFError

#: What nibabel raises on files that are damaged, cut short, or something else.
UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
#: How the small files begin that git-annex (DataLad) and Git LFS keep in place of large ones, and what fetches those.
POINTERS = {b"/annex/objects/": "datalad get", b"version https://git-lfs": "git lfs pull --include"}
POINTER_BYTES = 1024  # such a file is a line or three of text
CHUNK_BYTES = 1 << 20


def require_file(path: Path) -> None:
    """UHFError when a file does not exist, or is only the stand-in of one that was not fetched."""
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
