"""Trainings of moments for `cuda_check.py`, found through nnUNet_extTrainer; too short for any other use."""

from __future__ import annotations

import os
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.trainers import SIQTTrainer, UHFKeeperTrainer, UHFKeeperTrainerDirect, UHFTeacherTrainer, UHFTrainer

ITERATIONS, EPOCHS = "CUDA_CHECK_ITERATIONS", "CUDA_CHECK_EPOCHS"


class Moments(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: as many epochs and iterations as the environment says."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ[EPOCHS])
        self.num_iterations_per_epoch = int(os.environ[ITERATIONS])
        self.num_val_iterations_per_epoch = 2


class UHFTeacherTrainer_check(Moments, UHFTeacherTrainer):
    """The teacher."""


class UHFKeeperTrainer_check(Moments, UHFKeeperTrainer):
    """The reference keeper."""


class UHFKeeperTrainerEfficient_check(Moments, UHFKeeperTrainer):
    """The keeper of the efficient preset, in a folder of its own."""


class UHFKeeperTrainerDirect_check(Moments, UHFKeeperTrainerDirect):
    """The same without a teacher."""


class SIQTTrainer_check(Moments, SIQTTrainer):
    """SIQT."""


class UHFTrainer_check(Moments, UHFTrainer):
    """A guided training."""


__all__ = [
    "SIQTTrainer_check",
    "UHFKeeperTrainerDirect_check",
    "UHFKeeperTrainerEfficient_check",
    "UHFKeeperTrainer_check",
    "UHFTeacherTrainer_check",
    "UHFTrainer_check",
]
