"""Short trainers for `main_job.py`, found through nnUNet_extTrainer like anybody's own."""

from __future__ import annotations

from nnunet_uhf.trainers import UHFKeeperTrainer, UHFTeacherTrainer, UHFTrainer
from nnunet_uhf.trainers.variants import FixedLength

PRETRAINING, SEGMENTATION = 3, 2  # epochs
LEARNING_RATE = 3e-3  # three times the default of teacher and keeper: the trainings are much shorter


class nnUNetTrainer_short(FixedLength):
    """nnU-Net's default trainer, two epochs: what the guided one is held against."""

    length = SEGMENTATION


class UHFTrainer_short(FixedLength, UHFTrainer):
    """UHFTrainer, two epochs."""

    length = SEGMENTATION


class UHFTeacherTrainer_short(FixedLength, UHFTeacherTrainer):
    """UHFTeacherTrainer, three epochs."""

    length = PRETRAINING
    learning_rate = LEARNING_RATE


class UHFKeeperTrainer_short(FixedLength, UHFKeeperTrainer):
    """UHFKeeperTrainer, three epochs."""

    length = PRETRAINING
    learning_rate = LEARNING_RATE


__all__ = ["UHFKeeperTrainer_short", "UHFTeacherTrainer_short", "UHFTrainer_short", "nnUNetTrainer_short"]
