"""Trainers of `run.py`: nnU-Net's own optimizer, schedule and loss, seeded, of any length, without files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

from nnunet_uhf.trainers.guided.controls import DrawnKeeper
from nnunet_uhf.trainers.guided.guidance import UHFGuidance
from nnunet_uhf.trainers.seeded import SeededTraining

EPOCHS = 10
"""Into which a training is divided; the learning rate changes from one to the next."""


class Paired(nnUNetTrainer):
    """Mixin: ``steps`` in all, no checkpoints and no pictures; ``look`` is called after every epoch."""

    steps = 250
    rate: float | None = None
    fused: int | None = None
    look: Callable[[nnUNetTrainer], None] | None = None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch = EPOCHS, self.steps // EPOCHS
        self.num_val_iterations_per_epoch = 1
        self.disable_checkpointing = True

    def plot_network_architecture(self) -> None:
        """Nothing."""

    def on_epoch_end(self) -> None:
        """As nnU-Net, without progress.png."""
        self.logger.local_logger.plot_progress_png = lambda _: None
        super().on_epoch_end()
        if self.look is not None:
            self.look()


class Plain(Paired, SeededTraining, nnUNetTrainerNoMirroring):
    """What all are held against."""


class Guided(Paired, UHFGuidance, nnUNetTrainerNoMirroring):
    """By the keeper that is at hand; ``fused``: only so many stages, finest first."""

    def initialize(self) -> None:
        """As guided; fusions that start at nothing and learn nothing add nothing."""
        super().initialize()
        if self.fused is not None:
            self.guided_network.fusions[self.fused :].requires_grad_(requires_grad=False)

    @property
    def fusion_rate(self) -> float:
        """That of the command line, else the plans'."""
        return super().fusion_rate if self.rate is None else self.rate


class RandomKeeper(DrawnKeeper, Guided):
    """By a frozen keeper of random weights."""

    control = "random"


class ZeroGuide(DrawnKeeper, Guided):
    """By zeros."""

    control = "zero"


CONDITIONS: dict[str, type[Paired]] = {
    "plain": Plain,
    "guided": Guided,
    "same_field": Guided,
    "random": RandomKeeper,
    "zero": ZeroGuide,
}
"""By name; same_field is guided by another keeper file."""
