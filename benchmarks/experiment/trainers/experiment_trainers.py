"""Trainers of `benchmarks/experiment/run.py`, found through nnUNet_extTrainer like anybody's own.

Length and seed come from the environment, so that one class serves every size of the experiment. nnUNet_UHF_SEED
decides the backbone's first weights, every patch and its augmentation: all conditions see the same draws.
"""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.trainers import (
    SeededTraining,
    UHFKeeperTrainer,
    UHFKeeperTrainerSameField,
    UHFTeacherTrainer,
    UHFTeacherTrainerSameField,
    UHFTrainer,
    UHFTrainerEnhancedInput,
    UHFTrainerRandomKeeper,
    UHFTrainerTrainableKeeper,
    UHFTrainerUnfrozenKeeper,
    UHFTrainerZeroGuide,
)

SEED = int(os.environ.get("UHF_EXPERIMENT_SEED", "0"))
EPOCHS = int(os.environ.get("UHF_EXPERIMENT_EPOCHS", "1"))
ITERATIONS = int(os.environ.get("UHF_EXPERIMENT_ITERATIONS", "250"))
LEARNING_RATE = float(os.environ.get("UHF_EXPERIMENT_LEARNING_RATE", "0"))
MIRRORING = os.environ.get("UHF_EXPERIMENT_MIRRORING", "1") == "1"


class Sized(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: length of the environment."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch = EPOCHS, ITERATIONS


class Pretraining(Sized):
    """Mixin for teacher and keeper: every generator that nnU-Net draws from starts from the seed."""

    def initialize(self) -> None:
        """The weights are those of the seed."""
        set_seeds()
        super().initialize()

    def on_train_start(self) -> None:
        """So are the draws."""
        super().on_train_start()
        set_seeds()


def set_seeds() -> None:
    """Seed every generator that nnU-Net draws from."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - batchgenerators draws from the legacy state
    torch.manual_seed(SEED)


class Experiment(SeededTraining, Sized):
    """Mixin for the segmentation trainers."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_val_iterations_per_epoch = 1
        self.initial_lr = LEARNING_RATE or self.initial_lr

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """nnU-Net's own SGD, or Adam where a learning rate is given: it gets somewhere in a few hundred steps."""
        if not LEARNING_RATE:
            return super().configure_optimizers()
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, self.initial_lr)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802 - nnU-Net's name
        """nnU-Net's own, without mirroring where labels tell left from right."""
        *others, mirrored = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if not MIRRORING:
            mirrored = self.inference_allowed_mirroring_axes = None
        return *others, mirrored

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:  # noqa: ARG002
        """Nothing: the test subjects are predicted afterwards, and no choice is made on the validation case."""
        self.print_to_log_file("no validation: see the predictions of the test subjects")


class nnUNetTrainer_experiment(Experiment):
    """Plain nnU-Net: what everything is held against."""


class UHFTrainer_experiment(Experiment, UHFTrainer):
    """Guided."""


class UHFTrainerRandomKeeper_experiment(Experiment, UHFTrainerRandomKeeper):
    """Control; another random keeper for every seed."""

    keeper_seed = SEED


class UHFTrainerZeroGuide_experiment(Experiment, UHFTrainerZeroGuide):
    """Control."""


class UHFTrainerTrainableKeeper_experiment(Experiment, UHFTrainerTrainableKeeper):
    """Control; another start for every seed."""

    keeper_seed = SEED


class UHFTrainerUnfrozenKeeper_experiment(Experiment, UHFTrainerUnfrozenKeeper):
    """Control."""


class UHFTrainerEnhancedInput_experiment(Experiment, UHFTrainerEnhancedInput):
    """Control."""


class UHFTeacherTrainer_experiment(Pretraining, UHFTeacherTrainer):
    """The teacher, of the length of pretraining."""


class UHFKeeperTrainer_experiment(Pretraining, UHFKeeperTrainer):
    """The keeper, of the length of pretraining."""


class UHFTeacherTrainerSameField_experiment(Pretraining, UHFTeacherTrainerSameField):
    """The teacher of the same-field control, as long."""


class UHFKeeperTrainerSameField_experiment(Pretraining, UHFKeeperTrainerSameField):
    """The keeper of the same-field control, as long."""

    teacher_trainer = "UHFTeacherTrainerSameField_experiment"


__all__ = [name for name in dir() if name.endswith("_experiment")]
