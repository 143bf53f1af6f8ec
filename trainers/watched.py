"""Trainings that notice when their loss is no number any more, and when they are asked to end (ours)."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.nnunet.model_folder import LATEST, FoldFolder

SKIPPED = 20
"""Steps in a row without a finite loss that half precision may skip before a training is given up."""
TERMINATED = 128 + signal.SIGTERM
"""Exit status of a training that was asked to end."""


class WatchedTraining(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: no weights that are not finite, and an orderly end on SIGTERM.

    A trainer with a `train_step` that does not call nnU-Net's calls :meth:`after_step` itself.

    Raises:
        SystemExit: status 2 with one line when the loss is lost; 143 on SIGTERM, with a checkpoint for `--c`.
    """

    _ending: bool = False
    _skipped: int = 0
    _running: bool = False

    def run_training(self) -> None:
        """As nnU-Net; SIGTERM means again what it did before, however it ends."""
        with _as_before():
            self._running = True
            super().run_training()
            if self._ending:  # the final checkpoint is written
                raise SystemExit(TERMINATED)

    def on_train_start(self) -> None:
        """As nnU-Net; from now on there is something to be saved when the training is asked to end."""
        super().on_train_start()
        if self._running and not self.is_ddp and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _Ending(self))

    def on_epoch_start(self) -> None:
        """As nnU-Net, unless the training is asked to end."""
        self._end_if_asked()
        super().on_epoch_start()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As nnU-Net, watched."""
        result: dict[str, Any] = super().train_step(batch)
        self.after_step(float(result["loss"]))
        return result

    @exit_on_user_error
    def after_step(self, loss: float) -> None:
        """See that the loss of a step is a number, and whether the training is asked to end.

        In half precision a step whose gradients overflow is skipped and does no harm; weights that are not finite, or
        many such steps in a row, end a training, as a single one does in full precision.
        """
        self._skipped = 0 if math.isfinite(loss) else self._skipped + 1
        if self._skipped and (self.grad_scaler is None or self._skipped >= SKIPPED or not self.weights_are_finite()):
            self.give_up(f"the loss is {loss}")
        self._end_if_asked()

    def weights_are_finite(self) -> bool:
        """Whether all weights of the network in memory are numbers."""
        return all(bool(torch.isfinite(value).all()) for value in self.network.state_dict().values())

    def give_up(self, reason: str) -> None:
        """UHFError: the training cannot go on; what was saved before stays."""
        saved = FoldFolder(Path(self.output_folder)).any_checkpoint
        kept = f"{saved.name} is intact: go on from it with --c" if saved else "nothing was saved yet: start again"
        raise UHFError(
            f"{self.output_folder}: {reason} in epoch {self.current_epoch}; {kept}, other patches will be drawn; if it "
            "comes back, look for images with NaN or extreme intensities (nnunet-uhf qc), or lower the learning rate"
        )

    def _end_if_asked(self) -> None:
        if not self._ending:
            return
        self.current_epoch -= 1  # nnU-Net saves the number of the next epoch; this one is not over
        self.save_checkpoint(str(Path(self.output_folder) / LATEST))
        self.print_to_log_file("Asked to end (SIGTERM): a checkpoint is written, go on with --c")
        raise SystemExit(TERMINATED)


class _Ending:
    """What SIGTERM does in the process that trains: the training ends when its step is done."""

    def __init__(self, training: WatchedTraining) -> None:
        self.training = training

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.training._ending = True


def _end_at_once() -> None:
    """In a process forked by a training, a data loader or a pool's worker: SIGTERM ends it, as its owner expects.

    Not left to the handler: a signal that comes just before a worker waits for its queue would be noticed after the
    wait, that is, never.
    """
    if isinstance(signal.getsignal(signal.SIGTERM), _Ending):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_at_once)


@contextmanager
def _as_before() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
