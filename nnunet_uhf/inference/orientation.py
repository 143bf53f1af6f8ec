"""A keeper sees anatomy in the orientation it learnt: scans are turned to it, and images of them back (ours)."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel

from nnunet_uhf.errors import UHFError, UHFWarning
from nnunet_uhf.imageio.orientation import MIXED, Turn, axis_codes
from nnunet_uhf.imageio.place import read_place
from nnunet_uhf.keepers.header import KeeperHeader

_UNKNOWN = "does not say in which orientation its training's scans are stored"
_MIXED = "was trained on scans that are stored in several orientations"


def stored_as(path: Path) -> str:
    """The orientation in which a NIfTI file is stored, as nnU-Net reads it; UHFError of a singular affine."""
    codes = axis_codes(read_place(path, nibabel.load(path)).affine)
    if codes is None:
        raise UHFError(f"{path} has a singular affine: repair the geometry in its header")
    return codes


def turn_of(header: KeeperHeader, path: Path) -> Turn | None:
    """How a file is turned for a model; None for one that takes files as they are stored.

    A header without place names no orientation, and a single slice cannot be turned out of its plane: both are read as
    they are stored, with a :class:`nnunet_uhf.errors.UHFWarning`.

    Raises:
        UHFError: a singular affine.
    """
    if header.orientation in (None, MIXED):
        return None
    image = nibabel.load(path)
    if not read_place(path, image).coded:
        _warn(path, "its header names no orientation", header)
        return None
    turn = Turn.between(stored_as(path), header.orientation)
    shape = (*image.shape, 1, 1)[:3]
    if 1 in shape and turn.axes[shape.index(1)] != shape.index(1):
        _warn(path, "its slice lies in another plane than those the model learnt", header)
        return None
    return turn


def not_turned(header: KeeperHeader) -> str | None:
    """What to say of a model that takes every scan as it is stored; None of one that knows its orientation."""
    if header.orientation not in (None, MIXED):
        return None
    why = _UNKNOWN if header.orientation is None else _MIXED
    return f"scans are not turned: the keeper {why}; they should be stored in the same axis order as those"


def _warn(path: Path, why: str, header: KeeperHeader) -> None:
    text = f"{path}: {why}, the model's scans are stored in {header.orientation}: it is read as it is stored"
    warnings.warn(text, UHFWarning, stacklevel=1)
