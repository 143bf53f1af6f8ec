"""Class probabilities as ``nnUNetv2_predict --save_probabilities`` writes them: one .npz a case (ours)."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError

PREDICT = "predict with nnUNetv2_predict --save_probabilities"


def read_probabilities(path: Path, shape: tuple[int, ...], *, any_axis_order: bool = False) -> NDArray[Any]:
    """Return the probabilities (C, *S) of a case, in the axis order of the reader that nnU-Net used: (z, y, x).

    Args:
        path: the .npz; the .pkl beside it is never opened, as a pickle can run code.
        shape: what they must have, (C, *S).
        any_axis_order: *S may be permuted, as it is by nnU-Net's readers that reorient images.

    Raises:
        UHFError: missing or damaged, of another shape, or with values that are not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            values: NDArray[Any] = archive["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        raise UHFError(f"{path} holds no readable probabilities: {PREDICT} again") from None
    permuted = any_axis_order and values.ndim > 0 and sorted(values.shape[1:]) == sorted(shape[1:])
    if values.shape != shape and not (permuted and values.shape[0] == shape[0]):
        raise UHFError(f"{path} has shape {values.shape}, expected {shape}: {PREDICT} again")
    if not np.isfinite(values).all():
        raise UHFError(f"{path} contains NaN or infinite values: {PREDICT} again")
    return values
