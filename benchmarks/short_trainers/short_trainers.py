"""Trainers of three epochs for `main_job.py`, found through nnUNet_extTrainer like anybody's own."""

from __future__ import annotations

from nnunet_uhf.trainers import UHFKeeperTrainer, UHFTeacherTrainer, UHFTrainer
from nnunet_uhf.trainers.variants import FixedLength

EPOCHS = 3


class nnUNetTrainer_short(FixedLength):
    """nnU-Net's default trainer, three epochs: what the guided one is held against."""

    length = EPOCHS


class UHFTrainer_short(FixedLength, UHFTrainer):
    """UHFTrainer, three epochs."""

    length = EPOCHS


class UHFTeacherTrainer_short(FixedLength, UHFTeacherTrainer):
    """UHFTeacherTrainer, three epochs."""

    length = EPOCHS


class UHFKeeperTrainer_short(FixedLength, UHFKeeperTrainer):
    """UHFKeeperTrainer, three epochs."""

    length = EPOCHS


__all__ = ["UHFKeeperTrainer_short", "UHFTeacherTrainer_short", "UHFTrainer_short", "nnUNetTrainer_short"]
