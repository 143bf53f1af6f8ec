"""Short trainers for `main_job.py`, found through nnUNet_extTrainer like anybody's own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from nnunet_uhf.trainers import UHFKeeperTrainer, UHFTeacherTrainer, UHFTrainer
from nnunet_uhf.trainers.image_to_image import ImageToImageTrainer
from nnunet_uhf.trainers.variants import FixedLength

SEGMENTATION = 2  # epochs
# The default of teacher and keeper, and three times it where fewer steps must do.
LEARNING_RATE = {"2d": 1e-3, "3d_fullres": 3e-3}


class nnUNetTrainer_short(FixedLength):
    """nnU-Net's default trainer, two epochs: what the guided one is held against."""

    length = SEGMENTATION


class UHFTrainer_short(FixedLength, UHFTrainer):
    """UHFTrainer, two epochs."""

    length = SEGMENTATION


class ShortPretraining(ImageToImageTrainer):
    """Mixin: epochs and learning rate by configuration."""

    lengths: ClassVar[dict[str, int]]

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.initial_lr = self.lengths[configuration], LEARNING_RATE[configuration]


class UHFTeacherTrainer_short(ShortPretraining, UHFTeacherTrainer):
    """UHFTeacherTrainer, three epochs."""

    lengths = {"2d": 3, "3d_fullres": 3}  # noqa: RUF012 - a constant of the class


class UHFKeeperTrainer_short(ShortPretraining, UHFKeeperTrainer):
    """UHFKeeperTrainer, three epochs in 2D, two in 3D."""

    lengths = {"2d": 3, "3d_fullres": 2}  # noqa: RUF012 - a constant of the class


__all__ = ["UHFKeeperTrainer_short", "UHFTeacherTrainer_short", "UHFTrainer_short", "nnUNetTrainer_short"]
