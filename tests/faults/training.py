"""Trainings that are killed, asked to end, given NaN, or started twice, through nnU-Net's own command."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from faults.tally import Fault, in_child
from helpers.guided_runs import brief, model_folder, train
from helpers.tiny_data import SPECS, TinyDataset
from helpers.workspace import environment, folders, prepare_dataset
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.checkpoints import is_whole, load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import CHECKPOINTS
from nnunet_uhf.trainers import UHFTeacherTrainer

EPOCHS = 400
STARTED_S = 120
TERMINATED = 128 + signal.SIGTERM


class Training:
    """A 2D teacher on six tiny subjects; one epoch is two iterations."""

    def __init__(self, root: Path, name: str, dataset: TinyDataset) -> None:
        self.root, self.results, self.dataset = root, root / name, dataset

    def run(self, *, epochs: int = EPOCHS, slow: bool = False, poisoned: bool = False) -> None:
        """In a child of its own: go on, or begin."""
        trainer = brief(UHFTeacherTrainer, iterations=1, epochs=epochs)

        def on_epoch_end(self: Any) -> None:
            UHFTeacherTrainer.on_epoch_end(self)
            if poisoned and self.current_epoch == 2:
                next(self.network.parameters()).data.fill_(torch.nan)
            time.sleep(30 if slow else 0)

        trainer.on_epoch_end = on_epoch_end  # type: ignore[attr-defined]
        with environment(**folders(self.root, self.results), nnUNet_n_proc_DA="0", nnUNet_compile="F"):
            train(trainer, self.dataset, "2d", continue_training=self.fold.is_dir())

    @property
    def fold(self) -> Path:
        return model_folder(self.results, UHFTeacherTrainer, self.dataset, "2d") / "fold_0"

    def epoch(self) -> int:
        """Epochs in the newest checkpoint; 0 without one.

        Raises:
            UHFError: a checkpoint that is there is damaged, or not finite.
        """
        found = [0]
        for name in CHECKPOINTS:
            path = self.fold / name
            if path.is_file():
                content = load_checkpoint_weights(path)
                if not is_whole(path) or any(
                    bool(torch.isnan(one).any()) for one in content["network_weights"].values()
                ):
                    raise UHFError(f"{path} is damaged")
                found.append(int(content["current_epoch"]))
        return max(found)

    def wait_for(self, epoch: int, child: int) -> None:
        """Until the training has saved that many epochs, or is over."""
        until = time.monotonic() + STARTED_S
        while time.monotonic() < until and os.waitpid(child, os.WNOHANG) == (0, 0):
            if self.epoch() >= epoch:
                return
            time.sleep(0.02)
        raise RuntimeError(f"the training came to no epoch {epoch} within {STARTED_S} s")


def trainings(root: Path, times: int, seed: int = 0) -> Iterator[Fault]:
    """Kills, SIGTERM, NaN and a second start of one fold."""
    with ExitStack() as stack:
        stack.enter_context(environment(nnUNet_n_proc_DA="0"))
        dataset = prepare_dataset(root, SPECS["pairs"])
        yield _kills(Training(root, "killed", dataset), times, random.Random(seed))
        yield _terms(Training(root, "asked", dataset), max(1, times // 5), random.Random(seed))
        yield _poison(Training(root, "poisoned", dataset))
        yield _twice(Training(root, "twice", dataset))


def _kills(training: Training, times: int, draw: random.Random) -> Fault:
    fault = Fault("SIGKILL at a random moment of a training, then --c", "no checkpoint damaged, no saved epoch lost")
    before = 0
    for _ in range(times):
        child = in_child(training.run)
        training.wait_for(before + 1, child)
        time.sleep(draw.uniform(0, 0.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            now = training.epoch()
        except UHFError as error:
            fault.saw("lost", str(error))
            continue
        fault.saw("whole" if now > before else "lost", f"epoch {before}, then {now}")
        before = now
    return fault


def _terms(training: Training, times: int, draw: random.Random) -> Fault:
    fault = Fault("SIGTERM at a random moment of a training, then --c", "status 143, a checkpoint of that moment")
    before = 0
    for _ in range(times):
        child = in_child(training.run)
        training.wait_for(before + 1, child)
        time.sleep(draw.uniform(0, 0.5))
        os.kill(child, signal.SIGTERM)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        now = training.epoch()
        fault.saw(
            "right" if status == TERMINATED and now > before else "wrong", f"status {status}, epoch {before}, {now}"
        )
        before = now
    return fault


def _poison(training: Training) -> Fault:
    fault = Fault("weights become NaN in a training", "status 2 and one line, the last good checkpoint whole")
    status = os.waitstatus_to_exitcode(os.waitpid(in_child(lambda: training.run(epochs=6, poisoned=True)), 0)[1])
    epoch = training.epoch()
    fault.saw("one line" if status == 2 and epoch >= 1 else "wrong", f"status {status}, epoch {epoch}")
    return fault


def _twice(training: Training) -> Fault:
    fault = Fault("two trainings of one fold", "status 2 and one line for the second, the first goes on")
    first = in_child(lambda: training.run(slow=True))
    training.wait_for(1, first)
    before = training.epoch()
    second = os.waitstatus_to_exitcode(os.waitpid(in_child(training.run), 0)[1])
    alive = os.waitpid(first, os.WNOHANG) == (0, 0)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    good = second == 2 and alive and training.epoch() >= before
    fault.saw("one line" if good else "wrong", f"status {second}, first alive: {alive}")
    return fault
