"""nnU-Net trainer classes."""

from nnunet_uhf.trainers.baseline import StartFromBaseline, UHFTrainerFromBaseline
from nnunet_uhf.trainers.guidance import UHFGuidance
from nnunet_uhf.trainers.guided import UHFTrainer, UHFTrainerNoMirroring

__all__ = [
    "StartFromBaseline",
    "UHFGuidance",
    "UHFTrainer",
    "UHFTrainerFromBaseline",
    "UHFTrainerNoMirroring",
]
