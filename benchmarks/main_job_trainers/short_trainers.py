"""Short trainers for `main_job.py`, found through nnUNet_extTrainer like anybody's own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.trainers import (
    SeededTraining,
    UHFKeeperTrainer,
    UHFKeeperTrainerSameField,
    UHFTeacherTrainer,
    UHFTeacherTrainerSameField,
    UHFTrainer,
)

# The default of teacher and keeper, and three times it where fewer steps must do.
LEARNING_RATE = {"2d": 1e-3, "3d_fullres": 3e-3}


class Short(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: epochs and, where it has one of ours, learning rate by configuration."""

    lengths: ClassVar[dict[str, int]] = {"2d": 1, "3d_fullres": 1}
    learning_rates: ClassVar[dict[str, float]] = {}

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.lengths[configuration]
        self.initial_lr = self.learning_rates.get(configuration, self.initial_lr)


class nnUNetTrainer_short(Short, SeededTraining):
    """nnU-Net's default trainer, one epoch: what the guided one is held against, from the same start."""


class UHFTrainer_short(Short, UHFTrainer):
    """UHFTrainer, as long."""


class UHFTeacherTrainer_short(Short, UHFTeacherTrainer):
    """UHFTeacherTrainer, three epochs."""

    learning_rates = LEARNING_RATE
    lengths = {"2d": 3, "3d_fullres": 3}  # noqa: RUF012 - a constant of the class


class UHFKeeperTrainer_short(Short, UHFKeeperTrainer):
    """UHFKeeperTrainer, three epochs in 2D, one in 3D."""

    learning_rates = LEARNING_RATE
    lengths = {"2d": 3, "3d_fullres": 1}  # noqa: RUF012 - a constant of the class


class UHFTeacherTrainerSameField_short(Short, UHFTeacherTrainerSameField):
    """A teacher of low-field images, as long as the other."""

    learning_rates = LEARNING_RATE
    lengths = UHFTeacherTrainer_short.lengths


class UHFKeeperTrainerSameField_short(Short, UHFKeeperTrainerSameField):
    """A keeper of low-field features, as long as the other."""

    learning_rates = LEARNING_RATE
    lengths = UHFKeeperTrainer_short.lengths


__all__ = [
    "UHFKeeperTrainerSameField_short",
    "UHFKeeperTrainer_short",
    "UHFTeacherTrainerSameField_short",
    "UHFTeacherTrainer_short",
    "UHFTrainer_short",
    "nnUNetTrainer_short",
]
