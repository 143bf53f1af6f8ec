"""The guided trainers that nnU-Net's commands take with -tr."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainerNoMirroring,
)

from nnunet_uhf.trainers.guidance import UHFGuidance


class UHFTrainer(UHFGuidance, nnUNetTrainer):
    """nnU-Net's default trainer, guided."""


class UHFTrainerNoMirroring(UHFGuidance, nnUNetTrainerNoMirroring):
    """Guided, and no mirroring in training or prediction: for labels that tell left from right."""
