"""Whether a scan shows the brain alone, as brain extraction leaves it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import Volume

#: A skull-stripped scan is zero on nearly all of its border and in a good part of its volume.
ZERO_BORDER, ZERO_VOLUME = 0.9, 0.2


def is_skull_stripped(data: NDArray[np.number]) -> bool:
    """Whether the background is exactly zero: what brain extraction (or another background mask) leaves behind.

    The rim of the long axes decides: a stack of few slices shows the brain on its first and last.
    """
    inner = tuple(slice(1, -1) if size > 8 else slice(None) for size in data.shape)
    rim = np.ones(data.shape, dtype=bool)
    rim[inner] = False
    if not rim.any():
        return False
    return float((data[rim] == 0).mean()) >= ZERO_BORDER and float((data == 0).mean()) >= ZERO_VOLUME


def require_stripped(scan: Volume, *, otherwise: str = "") -> None:
    """UHFError when a scan without a mask is not skull-stripped; `otherwise` names ways out besides masks."""
    if not is_skull_stripped(scan.data):
        raise UHFError(
            f"{scan.path} is not skull-stripped and has no mask: give brain masks (--masks; for instance made with "
            f"SynthStrip){otherwise}"
        )
