"""Reading label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import read_volume
from nnunet_uhf.types import Affine


def read_labels(path: Path) -> tuple[NDArray[np.int32], Affine]:
    """A label map (X, Y, Z) and its affine (4, 4).

    Raises:
        UHFError: unreadable, not 3D, or values that are no whole numbers.
    """
    volume = read_volume(path)
    labels = np.rint(volume.data).astype(np.int32)
    if np.abs(labels - volume.data).max(initial=0) > 1e-3:  # a scaled file may store 2 as 2.0000001
        raise UHFError(f"{path} holds values that are no whole numbers: give label maps, not probabilities or images")
    return labels, volume.affine


def label_values(path: Path) -> list[int]:
    """The values that a label map holds."""
    return [int(value) for value in np.unique(read_labels(path)[0])]
