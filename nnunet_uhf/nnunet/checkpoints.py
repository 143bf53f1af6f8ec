"""The safe way to read one of nnU-Net's checkpoints, which nnU-Net itself unpickles (ours)."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_uhf.errors import UHFError, first_line

# nnU-Net logs numpy scalars, so its checkpoints hold these types beside tensors. `scalar` is taken from a scalar's
# own recipe because its module was renamed in numpy 2; a checkpoint may carry either name.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS: tuple[Any, ...] = (
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(name)) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "U1")},
)

LOUDNESS = "loudness"
"""Key of a guided training's log: by epoch, how loud the guidance of every stage is."""

SEED = "uhf_seed"
"""Entry of `init_args` with the seed of a seeded training."""

#: What torch raises on files that are damaged or are none of its own.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError)

_ENTRIES = ("network_weights", "init_args", "trainer_name")


def load_checkpoint_weights(path: str | Path) -> dict[str, Any]:
    """Read an nnU-Net checkpoint without running any code from it.

    Returns:
        nnU-Net's dict (`network_weights`, `init_args`, `trainer_name`, `logging`, ...), tensors on the CPU.

    Raises:
        UHFError: the file is missing, truncated, or holds anything but tensors, plain values and numpy scalars.
    """
    path = Path(path)
    if not path.is_file():
        raise UHFError(f"{path}: no such checkpoint; train that fold first or correct the path")
    if zipfile.is_zipfile(path) and not is_whole(path):  # torch does not look at the checksums
        raise UHFError(f"{path} is damaged: its checksums do not fit; restore it from a copy, or train that fold again")
    try:
        with torch.serialization.safe_globals(list(_NUMPY_SCALARS)):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, AttributeError, struct.error, OverflowError, AssertionError) as error:
        raise UHFError(
            f"{path}: not a readable nnU-Net checkpoint ({first_line(error)}); "
            "it is damaged or holds objects other than weights and settings: train that fold again"
        ) from error
    missing = [name for name in _ENTRIES if not isinstance(checkpoint, dict) or name not in checkpoint]
    if missing or not isinstance(checkpoint["init_args"], dict) or "configuration" not in checkpoint["init_args"]:
        raise UHFError(
            f"{path}: not an nnU-Net checkpoint (it lacks {', '.join(missing) or 'its configuration'}); "
            "give a checkpoint_*.pth of a fold"
        )
    return checkpoint


def last_loudness(checkpoint: Mapping[str, Any]) -> tuple[float, ...]:
    """How loud the guidance of every stage was in the last epoch, finest first; empty where that is not recorded."""
    log = checkpoint.get("logging")
    epochs = log.get(LOUDNESS) if isinstance(log, Mapping) else None
    return tuple(float(value) for value in epochs[-1]) if epochs else ()


def recorded_seed(checkpoint: Mapping[str, Any]) -> int | None:
    """The seed of a seeded training; None without one."""
    seed = checkpoint["init_args"].get(SEED)
    return seed if isinstance(seed, int) else None


def is_whole(path: str | Path) -> bool:
    """Whether a checkpoint's file is there and complete: torch writes archives with a checksum of every entry."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        return False
