"""Trainings that can be repeated and paired: the same first weights and the same samples from the same seed (ours).

What is drawn depends on the seed and on what it is drawn for: the weights; the batch of a number. Two trainers of one
seed, plain and guided, have the same backbone at the start and see the same patches in the same order with the same
augmentation, whatever else each of them draws, with any number of worker processes, and after ``--c``, too. On the CPU
the numbers are the same from run to run; on a GPU only start and samples are, since its sums have no fixed order.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.nnunet.checkpoints import SEED
from nnunet_uhf.seeds import derived_seed
from nnunet_uhf.trainers.base import SafeCheckpoints

SEED_VARIABLE = "nnUNet_UHF_SEED"
LARGEST_SEED = 2**31 - 1
WORKERS_VARIABLE = "nnUNet_n_proc_DA"
WAIT_S = 0.002  # nnU-Net's, for a batch


def training_seed() -> int | None:
    """The seed that ``nnUNet_UHF_SEED`` asks for; None where it is not set.

    Raises:
        UHFError: it is no whole number from 0 to 2147483647.
    """
    asked = os.environ.get(SEED_VARIABLE, "").strip()
    if not asked:
        return None
    if not (asked.isascii() and asked.isdigit() and int(asked) <= LARGEST_SEED):
        raise UHFError(f"{SEED_VARIABLE} is {asked!r}: set it to a whole number from 0 to {LARGEST_SEED}, or unset it")
    return int(asked)


class SeededTraining(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: ``nnUNet_UHF_SEED=3`` decides all that is drawn.

    Without the variable a training is as random as nnU-Net's. A checkpoint records its seed, and goes on with that
    one alone.

    Raises:
        SystemExit: status 2 with one line: the variable is no seed, or not that of the checkpoint.
    """

    seed: int | None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        self._read_seed()
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.seed is not None:
            self.my_init_kwargs[SEED] = self.seed

    @exit_on_user_error
    def _read_seed(self) -> None:
        self.seed = training_seed()

    def initialize(self) -> None:
        """As nnU-Net, with weights of the seed."""
        if self.seed is not None:
            _seed_everything(derived_seed(self.seed, "weights"))
        super().initialize()
        if self.seed is not None:
            self.print_to_log_file(f"Seed {self.seed} decides first weights, samples and augmentation")

    def get_dataloaders(self) -> tuple[Any, Any]:
        """As nnU-Net; in a seeded training the batch of a number is the same with any number of worker processes."""
        if self.seed is None:
            return super().get_dataloaders()
        workers = get_allowed_n_proc_DA()
        with _variable(WORKERS_VARIABLE, "0"):
            training, validation = super().get_dataloaders()
        return (
            self._seeded(training, "training", workers, self.num_iterations_per_epoch),
            self._seeded(
                validation, "validation", max(1, workers // 2) if workers else 0, self.num_val_iterations_per_epoch
            ),
        )

    def _seeded(self, batches: Any, purpose: str, workers: int, per_epoch: int) -> Any:
        """The batches from the present epoch on, made by so many workers; 0 for none."""
        if not isinstance(batches, SingleThreadedAugmenter):
            raise NotImplementedError(
                f"{type(self).__name__} makes its batches by {type(batches).__name__}, which {SEED_VARIABLE} does not "
                "reach: unset it"
            )
        loader = batches.data_loader
        _without_benchmarks(getattr(loader, "transforms", None))
        text = f"{purpose} {self.local_rank}"  # each rank of a distributed training sees samples of its own
        seeded = SeededBatches(loader, self.seed or 0, text, first=self.current_epoch * per_epoch, workers=workers)
        if workers == 0:
            return SingleThreadedAugmenter(seeded, None)
        return MultiThreadedAugmenter(
            seeded, None, workers, pin_memory=self.device.type == "cuda", wait_time=WAIT_S
        )  # one queue a worker, read in turn: the order is kept

    def on_train_epoch_start(self) -> None:
        """As nnU-Net; what a network draws by itself, as dropout does, depends on the epoch alone."""
        if self.seed is not None:
            _seed_everything(derived_seed(self.seed, "epoch", self.current_epoch, self.local_rank))
        super().on_train_epoch_start()

    @exit_on_user_error
    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """As nnU-Net, with the seed of the checkpoint."""
        super().load_checkpoint(filename_or_checkpoint)
        began = self.my_init_kwargs.get(SEED)
        if began != self.seed and self.current_epoch < self.num_epochs:
            wanted = f"unset {SEED_VARIABLE}" if began is None else f"set {SEED_VARIABLE}={began}"
            with_seed = "without a seed" if began is None else f"with seed {began}"
            raise UHFError(f"{Path(self.output_folder)}: this training began {with_seed}; to go on, {wanted}")


class nnUNetTrainerSeeded(SeededTraining, SafeCheckpoints):
    """nnU-Net's default trainer with a seed: what a guided trainer of the same ``nnUNet_UHF_SEED`` is held against."""

    @exit_on_user_error
    def _read_seed(self) -> None:
        super()._read_seed()
        if self.seed is None:
            raise UHFError(f"{type(self).__name__} needs a seed: set {SEED_VARIABLE} to a whole number, such as 1")


class SeededBatches:
    """Batches of a loader, each drawn after all generators were seeded with its number.

    A worker process makes every so-manieth of them.

    Args:
        loader: makes batches, as nnU-Net's does.
        seed: of the training.
        purpose: what the batches are for: each purpose has its own.
        first: number of the first batch.
        workers: processes that share the work, 0 for none.
    """

    def __init__(self, loader: Any, seed: int, purpose: str, *, first: int, workers: int) -> None:
        self.loader, self.seed, self.purpose = loader, seed, purpose
        self.number, self.step = first, max(1, workers)

    def set_thread_id(self, thread_id: int) -> None:
        """Called in a worker process with its number."""
        torch.set_num_threads(1)
        self.number += thread_id
        self.loader.set_thread_id(thread_id)

    def __iter__(self) -> SeededBatches:
        return self

    def __next__(self) -> Any:
        with _drawing_from(derived_seed(self.seed, self.purpose, self.number)):
            self.number += self.step
            return next(self.loader)


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - nnU-Net draws from the global generator
    torch.manual_seed(seed)


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """The generators of augmentation with a seed, and afterwards as they were: others draw from them, too."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)  # not CUDA's, which a worker process must not touch
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _without_benchmarks(transform: Any) -> None:
    """Blurring chooses between two ways of computing by the clock: their roundings differ."""
    if getattr(transform, "benchmark", False):
        transform.benchmark = False
    inner = [getattr(transform, "transform", None), *getattr(transform, "transforms", [])]
    for each in inner:
        if each is not None:
            _without_benchmarks(each)
