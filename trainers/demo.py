"""Trainers of `nnunet-uhf demo`: minutes on two CPU cores. Too short for any other use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainerNoMirroring,
)

from nnunet_uhf.devices import use_asked_threads
from nnunet_uhf.trainers.base import SafeCheckpoints
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer
from nnunet_uhf.trainers.guided.controls import DrawnKeeper
from nnunet_uhf.trainers.guided.guidance import UHFGuidance
from nnunet_uhf.trainers.seeded import SeededTraining


@dataclass(frozen=True)
class Length:
    """Length of a training: nnU-Net's own is 1000 epochs of 250 iterations."""

    epochs: int
    iterations_2d: int
    """Training iterations of one epoch of a 2d configuration: cheap ones."""
    iterations_3d: int
    """Training iterations of one epoch of a 3d configuration."""
    val_iterations: int = 2


# By the name of the trainer class.
# Few epochs: drawing progress.png after each takes as long as thirty steps here.
LENGTHS = {
    "UHFTeacherTrainer_demo": Length(epochs=5, iterations_2d=60, iterations_3d=40),
    "UHFKeeperTrainer_demo": Length(epochs=5, iterations_2d=80, iterations_3d=80),
    "nnUNetTrainer_demo": Length(epochs=6, iterations_2d=80, iterations_3d=50, val_iterations=8),
    "UHFTrainer_demo": Length(epochs=6, iterations_2d=80, iterations_3d=50, val_iterations=8),
    "UHFTrainerRandomKeeper_demo": Length(epochs=6, iterations_2d=80, iterations_3d=50, val_iterations=8),
}


class DemoLength(nnUNetTrainerNoMirroring):
    """Mixin before any nnUNetTrainer subclass: train as long as the table says of the class, or of its base.

    Without mirroring, which would make the prediction eight times as long as it is, and on a CPU with the threads of
    ``OMP_NUM_THREADS``: nnU-Net takes all cores, which doubles the time of networks this small.
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
        use_asked_threads(device)
        length = next(LENGTHS[each.__name__] for each in type(self).__mro__ if each.__name__ in LENGTHS)
        self.num_epochs = length.epochs
        two_dimensional = len(self.configuration_manager.patch_size) == 2
        self.num_iterations_per_epoch = length.iterations_2d if two_dimensional else length.iterations_3d
        self.num_val_iterations_per_epoch = length.val_iterations


class DemoSegmentation(DemoLength):
    """Mixin for the networks that segment: judged on held-out subjects alone."""

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Nothing: the demo predicts subjects that no network has seen, and nothing reads nnU-Net's validation."""
        self.print_to_log_file("No validation of this fold: the demo judges the held-out subjects")


class UHFTeacherTrainer_demo(DemoLength, UHFTeacherTrainer):
    """UHFTeacherTrainer, demo length."""

    learning_rate = 4e-3  # the paper's 2e-4 is for trainings a hundred times as long


class UHFKeeperTrainer_demo(DemoLength, UHFKeeperTrainer):
    """UHFKeeperTrainer, demo length."""

    learning_rate = 3e-3


class nnUNetTrainer_demo(SeededTraining, SafeCheckpoints, DemoSegmentation):
    """nnU-Net's trainer, demo length: what the guided one is held against; of one seed both have the same start."""


class UHFTrainer_demo(UHFGuidance, DemoSegmentation):
    """UHFTrainer, demo length."""


class UHFTrainerRandomKeeper_demo(DrawnKeeper, DemoSegmentation):
    """UHFTrainerRandomKeeper, demo length."""

    control = "random"
