"""Checkpoints that survive a kill, and the safe way to read one (ours; nnU-Net writes in place and unpickles)."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.errors import UHFError

# nnU-Net logs numpy scalars, so its checkpoints hold these types beside tensors. `scalar` is taken from a scalar's
# own recipe because its module was renamed in numpy 2; a checkpoint may carry either name.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS: tuple[Any, ...] = (
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(name)) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "U1")},
)

_ENTRIES = ("network_weights", "init_args", "trainer_name")


class SafeCheckpoints(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: a checkpoint every epoch, each written whole or not at all.

    A training that is killed at any moment continues with `--c` from the last finished epoch.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.save_every = 1

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint beside its place, then move it there: the old file stays until the new one is whole."""
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        temporary = Path(f"{filename}.tmp")
        try:
            super().save_checkpoint(str(temporary))
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(filename)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """As nnU-Net, but with the best epoch taken from the log.

        nnU-Net writes the latest checkpoint before it knows whether that epoch is the best: the first epoch after
        it could replace a better ``checkpoint_best.pth``.
        """
        super().load_checkpoint(filename_or_checkpoint)
        averages = self.logger.local_logger.my_fantastic_logging.get("ema_fg_dice", [])
        self._best_ema = max(averages, default=self._best_ema)


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
    try:
        with torch.serialization.safe_globals(list(_NUMPY_SCALARS)):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UHFError(
            f"{path}: not a readable nnU-Net checkpoint ({_first_line(error)}); "
            "it is damaged or holds objects other than weights and settings: train that fold again"
        ) from error
    missing = [name for name in _ENTRIES if not isinstance(checkpoint, dict) or name not in checkpoint]
    if missing or "configuration" not in checkpoint["init_args"]:
        raise UHFError(
            f"{path}: not an nnU-Net checkpoint (it lacks {', '.join(missing) or 'its configuration'}); "
            "give a checkpoint_*.pth of a fold"
        )
    return checkpoint


def _first_line(error: Exception) -> str:
    """Torch explains itself over many lines; a user error has one."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120].strip()}"
