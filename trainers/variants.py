"""Trainers of a fixed, shorter length; nnU-Net's own full length is 1000 epochs."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.trainers.baseline import UHFTrainerFromBaseline
from nnunet_uhf.trainers.guided import UHFTrainer
from nnunet_uhf.trainers.keeper import UHFKeeperTrainer
from nnunet_uhf.trainers.teacher import UHFTeacherTrainer


class FixedLength(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: train for ``length`` epochs."""

    length: ClassVar[int]

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.length


class UHFTrainer_1epoch(FixedLength, UHFTrainer):
    """UHFTrainer for 1 epoch."""

    length = 1


class UHFTrainer_5epochs(FixedLength, UHFTrainer):
    """UHFTrainer for 5 epochs."""

    length = 5


class UHFTrainer_20epochs(FixedLength, UHFTrainer):
    """UHFTrainer for 20 epochs."""

    length = 20


class UHFTrainer_50epochs(FixedLength, UHFTrainer):
    """UHFTrainer for 50 epochs."""

    length = 50


class UHFTrainer_100epochs(FixedLength, UHFTrainer):
    """UHFTrainer for 100 epochs."""

    length = 100


class UHFTrainer_250epochs(FixedLength, UHFTrainer):
    """UHFTrainer for 250 epochs."""

    length = 250


class UHFTrainerFromBaseline_1epoch(FixedLength, UHFTrainerFromBaseline):
    """UHFTrainerFromBaseline for 1 epoch."""

    length = 1


class UHFTrainerFromBaseline_5epochs(FixedLength, UHFTrainerFromBaseline):
    """UHFTrainerFromBaseline for 5 epochs."""

    length = 5


class UHFTrainerFromBaseline_20epochs(FixedLength, UHFTrainerFromBaseline):
    """UHFTrainerFromBaseline for 20 epochs."""

    length = 20


class UHFTrainerFromBaseline_50epochs(FixedLength, UHFTrainerFromBaseline):
    """UHFTrainerFromBaseline for 50 epochs."""

    length = 50


class UHFTrainerFromBaseline_100epochs(FixedLength, UHFTrainerFromBaseline):
    """UHFTrainerFromBaseline for 100 epochs."""

    length = 100


class UHFTrainerFromBaseline_250epochs(FixedLength, UHFTrainerFromBaseline):
    """UHFTrainerFromBaseline for 250 epochs."""

    length = 250


class UHFTeacherTrainer_1epoch(FixedLength, UHFTeacherTrainer):
    """UHFTeacherTrainer for 1 epoch."""

    length = 1


class UHFTeacherTrainer_5epochs(FixedLength, UHFTeacherTrainer):
    """UHFTeacherTrainer for 5 epochs."""

    length = 5


class UHFTeacherTrainer_20epochs(FixedLength, UHFTeacherTrainer):
    """UHFTeacherTrainer for 20 epochs."""

    length = 20


class UHFTeacherTrainer_50epochs(FixedLength, UHFTeacherTrainer):
    """UHFTeacherTrainer for 50 epochs."""

    length = 50


class UHFTeacherTrainer_100epochs(FixedLength, UHFTeacherTrainer):
    """UHFTeacherTrainer for 100 epochs."""

    length = 100


class UHFTeacherTrainer_250epochs(FixedLength, UHFTeacherTrainer):
    """UHFTeacherTrainer for 250 epochs."""

    length = 250


class UHFKeeperTrainer_1epoch(FixedLength, UHFKeeperTrainer):
    """UHFKeeperTrainer for 1 epoch."""

    length = 1


class UHFKeeperTrainer_5epochs(FixedLength, UHFKeeperTrainer):
    """UHFKeeperTrainer for 5 epochs."""

    length = 5


class UHFKeeperTrainer_20epochs(FixedLength, UHFKeeperTrainer):
    """UHFKeeperTrainer for 20 epochs."""

    length = 20


class UHFKeeperTrainer_50epochs(FixedLength, UHFKeeperTrainer):
    """UHFKeeperTrainer for 50 epochs."""

    length = 50


class UHFKeeperTrainer_100epochs(FixedLength, UHFKeeperTrainer):
    """UHFKeeperTrainer for 100 epochs."""

    length = 100


class UHFKeeperTrainer_250epochs(FixedLength, UHFKeeperTrainer):
    """UHFKeeperTrainer for 250 epochs."""

    length = 250
