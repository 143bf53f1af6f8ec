"""Trainings whose loss is lost, and trainings that are asked to end."""

from __future__ import annotations

import inspect
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from helpers.children import ended, fork
from helpers.saving import Saving
from helpers.support import fit, only_line, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf import trainers
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import CHECKPOINT, LATEST
from nnunet_uhf.trainers.base import SafeCheckpoints
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer

TRAINERS = pytest.mark.parametrize("trainer", [SafeCheckpoints, UHFTeacherTrainer])


MIXINS = {"SeededTraining", "StartFromBaseline", "UHFGuidance", "WeightedLoss"}
HOOKS = (
    "do_split", "load_checkpoint", "on_epoch_start", "on_train_start", "run_training", "save_checkpoint", "train_step",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(trainers.__all__) - MIXINS))
def test_every_trainer_is_watched_and_none_of_its_hooks_leaves_that_out(name: str) -> None:
    trainer = getattr(trainers, name)
    order = inspect.getmro(trainer)
    assert SafeCheckpoints in order
    assert order.index(SafeCheckpoints) < order.index(nnUNetTrainer)
    for cls in order[: order.index(SafeCheckpoints)]:
        for hook in set(HOOKS) & set(vars(cls)):
            body = inspect.getsource(vars(cls)[hook])
            handed_on = f"super().{hook}(" in body or (hook == "train_step" and "self.after_step(" in body)
            assert handed_on, f"{cls.__name__}.{hook}"


def poison(network: torch.nn.Module) -> None:
    with torch.no_grad():
        next(network.parameters()).fill_(math.nan)


@TRAINERS
def test_a_lost_loss_ends_a_training_and_the_last_good_checkpoint_stays(
    trainer: type, nnunet: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    class Diverging(trainer):  # type: ignore[misc, valid-type]
        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            if self.current_epoch == 1:
                poison(self.network)

    training = tiny_trainer(Diverging, nnunet.dataset("pairs"), "2d", epochs=3)
    error = only_line(capsys, lambda: fit(training))
    assert error.startswith(f"error: {training.output_folder}: the loss is nan in epoch 1; checkpoint_")
    assert "go on from it with --c" in error
    saved = load_checkpoint_weights(Path(training.output_folder) / LATEST)
    assert saved["current_epoch"] == 1
    assert all(bool(torch.isfinite(value).all()) for value in saved["network_weights"].values())
    assert not (Path(training.output_folder) / CHECKPOINT).exists()


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer, path = Saving(tmp_path), tmp_path / CHECKPOINT
    trainer.save_checkpoint(str(path))
    before = path.read_bytes()
    poison(trainer.network)
    error = only_line(capsys, lambda: trainer.save_checkpoint(str(path)))
    assert "weights that are no finite numbers in epoch 0; checkpoint_final.pth is intact" in error
    assert path.read_bytes() == before


def test_a_step_that_half_precision_skips_ends_no_training_but_twenty_in_a_row_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer: Any = Saving(tmp_path)
    trainer.grad_scaler = object()
    for loss in ([math.inf] * 19 + [1.0]) * 2 + [math.nan] * 19:
        trainer.after_step(loss)
    assert "the loss is nan in epoch 0; nothing was saved yet" in only_line(
        capsys, lambda: trainer.after_step(math.nan)
    )
    trainer.after_step(1.0)
    poison(trainer.network)
    only_line(capsys, lambda: trainer.after_step(math.nan))


@TRAINERS
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_training_that_is_asked_to_end_saves_and_goes_on_later(trainer: type, epoch: int, nnunet: Workspace) -> None:
    class Asked(trainer):  # type: ignore[misc, valid-type]
        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            if self.current_epoch == epoch and not self._continues:
                os.kill(os.getpid(), signal.SIGTERM)

    dataset, before = nnunet.dataset("pairs"), signal.getsignal(signal.SIGTERM)
    training = tiny_trainer(Asked, dataset, "2d", epochs=2)
    with pytest.raises(SystemExit) as end:
        fit(training)
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    latest = Path(training.output_folder) / LATEST
    assert load_checkpoint_weights(latest)["current_epoch"] == epoch
    again = tiny_trainer(Asked, dataset, "2d", epochs=2, continue_training=True)
    again.load_checkpoint(str(latest))
    fit(again)
    assert load_checkpoint_weights(latest.with_name(CHECKPOINT))["current_epoch"] == 2


def test_a_training_asked_to_end_in_its_last_epoch_is_finished_but_not_validated(nnunet: Workspace) -> None:
    class Late(UHFTeacherTrainer):
        def on_epoch_end(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            super().on_epoch_end()

    training = tiny_trainer(Late, nnunet.dataset("pairs"), "2d")
    with pytest.raises(SystemExit) as end:
        fit(training, validate=True)
    assert end.value.code == 143
    assert (Path(training.output_folder) / CHECKPOINT).is_file()


def test_processes_that_a_training_forks_end_at_once_and_nothing_stays_behind(nnunet: Workspace) -> None:
    handlers: list[Any] = []

    class Forking(UHFTeacherTrainer):
        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            handlers.append(signal.getsignal(signal.SIGTERM))
            reader, writer = os.pipe()
            child = fork(lambda: os.write(writer, repr(signal.getsignal(signal.SIGTERM)).encode()))
            assert ended(child) == 0
            handlers.append(os.read(reader, 100).decode())

    before = signal.getsignal(signal.SIGTERM)
    fit(tiny_trainer(Forking, nnunet.dataset("pairs"), "2d"))
    assert callable(handlers[0])
    assert "SIG_DFL" in handlers[1]
    assert signal.getsignal(signal.SIGTERM) == before
    trainer = tiny_trainer(UHFTeacherTrainer, nnunet.dataset("pairs"), "2d")
    trainer.on_train_start()
    assert signal.getsignal(signal.SIGTERM) == before
