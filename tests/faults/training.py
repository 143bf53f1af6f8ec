"""Trainings that are killed, asked to end, given NaN, or started twice, through nnU-Net's own command."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from faults.tally import Fault, in_child
from helpers.guided_runs import brief, model_folder, train
from helpers.support import tiny_keeper
from helpers.tiny_data import SPECS, TinyDataset
from helpers.unpaired_samples import prepare_unpaired
from helpers.workspace import environment, folders, prepare_dataset
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.checkpoints import is_whole, load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import CHECKPOINTS
from nnunet_uhf.trainers import CUTTrainer, UHFTeacherTrainer, UHFTrainer, UniCOALTrainer, nnUNetTrainerSeeded

EPOCHS = 400
STARTED_S = 120
TERMINATED = 128 + signal.SIGTERM
FEW = 5
"""Kills of each further trainer, in the long form."""


@dataclass(frozen=True)
class Trained:
    """A trainer, a dataset of five or more tiny subjects for it, and variables that it needs."""

    trainer: type
    dataset: TinyDataset
    root: Path
    variables: Mapping[str, str] = field(default_factory=dict)


class Training:
    """A 2D training; one epoch is two iterations."""

    def __init__(self, of: Trained, name: str) -> None:
        self.of, self.results = of, of.root / name

    def run(self, *, epochs: int = EPOCHS, slow: bool = False, poisoned: bool = False) -> None:
        """In a child of its own: go on, or begin."""
        whole: Any = self.of.trainer
        trainer = brief(whole, iterations=1, epochs=epochs)

        def on_epoch_end(self: Any) -> None:
            whole.on_epoch_end(self)
            if poisoned and self.current_epoch == 2:
                next(self.network.parameters()).data.fill_(torch.nan)
            time.sleep(30 if slow else 0)

        trainer.on_epoch_end = on_epoch_end  # type: ignore[attr-defined]
        variables = {**folders(self.of.root, self.results), **self.of.variables}
        with environment(**variables, nnUNet_n_proc_DA="0", nnUNet_compile="F"):
            train(trainer, self.of.dataset, "2d", continue_training=self.epoch() > 0)

    @property
    def name(self) -> str:
        """Of the trainer."""
        return self.of.trainer.__name__

    @property
    def fold(self) -> Path:
        return model_folder(self.results, self.of.trainer, self.of.dataset, "2d") / "fold_0"

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
    """Kills, SIGTERM, NaN and a second start of one fold: of a teacher, and in the long form of other trainers."""
    with ExitStack() as stack:
        stack.enter_context(environment(nnUNet_n_proc_DA="0"))
        pairs = prepare_dataset(root, SPECS["pairs"])
        yield from _of(Trained(UHFTeacherTrainer, pairs, root), times, max(1, times // 5), seed)
        if times < FEW:
            return
        for one in _others(root, pairs):
            yield from _of(one, FEW, 2, seed)


def _others(root: Path, pairs: TinyDataset) -> Iterator[Trained]:
    """Trainers that share little with a teacher."""
    yield Trained(UHFTrainer, pairs, root, {"nnUNet_UHF_KKN": str(tiny_keeper(root / "keeper", 2))})
    yield Trained(nnUNetTrainerSeeded, pairs, root, {"nnUNet_UHF_SEED": "1"})
    yield Trained(UniCOALTrainer, prepare_dataset(root, SPECS["modalities"]), root)
    yield Trained(CUTTrainer, prepare_unpaired(root), root)


def _of(trained: Trained, kills: int, terms: int, seed: int) -> Iterator[Fault]:
    name = trained.trainer.__name__
    yield _kills(Training(trained, f"killed_{name}"), kills, random.Random(seed))
    yield _terms(Training(trained, f"asked_{name}"), terms, random.Random(seed))
    yield _poison(Training(trained, f"poisoned_{name}"))
    yield _twice(Training(trained, f"twice_{name}"))


def _kills(training: Training, times: int, draw: random.Random) -> Fault:
    fault = Fault(
        f"{training.name}: SIGKILL at a random moment, then --c", "no checkpoint damaged, no saved epoch lost"
    )
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
    fault = Fault(f"{training.name}: SIGTERM at a random moment, then --c", "status 143, a checkpoint of that moment")
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
    fault = Fault(f"{training.name}: weights become NaN", "status 2 and one line, the last good checkpoint whole")
    status = os.waitstatus_to_exitcode(os.waitpid(in_child(lambda: training.run(epochs=6, poisoned=True)), 0)[1])
    epoch = training.epoch()
    fault.saw("one line" if status == 2 and epoch >= 1 else "wrong", f"status {status}, epoch {epoch}")
    return fault


def _twice(training: Training) -> Fault:
    fault = Fault(
        f"{training.name}: two trainings of one fold", "status 2 and one line for the second, the first goes on"
    )
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
