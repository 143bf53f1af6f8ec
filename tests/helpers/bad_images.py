"""NIfTI files whose headers cannot be true, and files that are damaged, by what is wrong with them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

Edit = Callable[[bytearray], None]


def _sform(*rows: float) -> Edit:
    def edit(raw: bytearray) -> None:
        struct.pack_into("<12f", raw, 280, *rows)
        struct.pack_into("<2h", raw, 252, 0, 2)

    return edit


def _shape(*sizes: int) -> Edit:
    return lambda raw: struct.pack_into("<8h", raw, 40, 3, *sizes, 1, 1, 1, 1)


def _pixdim(first: float) -> Edit:
    def edit(raw: bytearray) -> None:
        struct.pack_into("<3f", raw, 80, first, 1, 1)
        struct.pack_into("<2h", raw, 252, 0, 0)

    return edit


def _quaternion(raw: bytearray) -> None:
    struct.pack_into("<3f", raw, 256, float("nan"), 0, 0)
    struct.pack_into("<2h", raw, 252, 1, 0)


def _sixty(raw: bytearray) -> None:
    _sform(60, 0, 0, 0, 0, 60, 0, 0, 0, 0, 60, 0)(raw)
    struct.pack_into("<3f", raw, 80, 60, 60, 60)


NAN = float("nan")
#: By what is wrong: how the bytes of a sound .nii are changed.
EDITS: dict[str, Edit] = {
    "30000 voxels a side": _shape(30000, 30000, 30000),
    "no voxels": _shape(0, 8, 8),
    "a negative side": _shape(-8, 8, 8),
    "voxels of 60 mm": _sixty,
    "singular affine": _sform(1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0),
    "affine of zeros": _sform(*[0.0] * 12),
    "NaN in the affine": _sform(NAN, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0),
    "infinity in the affine": _sform(float("inf"), 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0),
    "NaN in the origin": _sform(1, 0, 0, NAN, 0, 1, 0, 0, 0, 0, 1, 0),
    "NaN as voxel size": _pixdim(NAN),
    "NaN in the quaternion": _quaternion,
    "unknown data type": lambda raw: struct.pack_into("<h", raw, 70, 999),
    "data beyond the end": lambda raw: struct.pack_into("<f", raw, 108, 1e9),
    "no magic": lambda raw: struct.pack_into("<4s", raw, 344, b"nope"),
    "cut in the header": lambda raw: raw.__delitem__(slice(200, None)),
    "cut in the data": lambda raw: raw.__delitem__(slice(len(raw) // 2, None)),
    "empty": lambda raw: raw.clear(),
    "NaN among the voxels": lambda raw: struct.pack_into("<f", raw, 600, NAN),
}


def write_bad_image(path: Path, wrong: str, *, size: int = 12) -> Path:
    """A small file, packed where its name says so, with that fault."""
    image = np.random.default_rng(0).random((size, size, size), dtype=np.float32) + 1
    plain = nibabel.Nifti1Image(image, np.eye(4))
    raw = bytearray(plain.to_bytes())
    EDITS[wrong](raw)
    path.write_bytes(gzip.compress(bytes(raw)) if path.name.endswith(".gz") else bytes(raw))
    return path
