"""Reading label maps and masks: one rule for values that are not quite whole numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import Volume, read_volume
from nnunet_uhf.types import Affine, Mask

#: A float array that is stored as integers gets a scale, and comes back as 1.00005 in place of 1.
ROUNDING = 1e-3


def whole_numbers(path: Path, data: NDArray[np.number]) -> NDArray[np.int32]:
    """The values of a label map (*S) as integers.

    Args:
        path: where they come from, for the message.
        data: as they were read.

    Raises:
        UHFError: a value that is further than :data:`ROUNDING` from a whole number.
    """
    if data.dtype.kind in "iu":
        return data.astype(np.int32)
    labels = np.rint(data)
    if np.abs(labels - data).max(initial=0) > ROUNDING:
        raise UHFError(
            f"{path} holds values that are no whole numbers: give label maps as they were drawn, not interpolated, and "
            "no probabilities or images"
        )
    return labels.astype(np.int32)


def inside(data: NDArray[np.number]) -> Mask:
    """The mask that an array (*S) holds: whatever is not 0, by the same rule."""
    return np.abs(data) > ROUNDING


def label_volume(path: Path) -> Volume:
    """A label map (X, Y, Z) as a volume of whole numbers.

    Raises:
        UHFError: unreadable, not 3D, or values that are no whole numbers.
    """
    volume = read_volume(path)
    return Volume(whole_numbers(path, volume.data).astype(np.float32), volume.affine, volume.header, path, volume.other)


def read_labels(path: Path) -> tuple[NDArray[np.int32], Affine]:
    """A label map (X, Y, Z) and its affine (4, 4); raises as :func:`label_volume`."""
    volume = read_volume(path)
    return whole_numbers(path, volume.data), volume.affine


def label_values(path: Path) -> list[int]:
    """The values that a label map holds."""
    return [int(value) for value in np.unique(read_labels(path)[0])]
