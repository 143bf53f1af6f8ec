"""PTATrainer with one thing changed each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from nnunet_uhf.networks.pta.losses import PTA_PRESETS, SMOOTHED, JudgeLabels
from nnunet_uhf.trainers.pta.pta import PTATrainer


class PTATrainerPaper(PTATrainer):
    """PTATrainer with the losses of the paper's summary: against a matched slice, and a judge of pairs (`paper`)."""

    preset: ClassVar[str] = "paper"
    own_weights: ClassVar[Mapping[str, float]] = PTA_PRESETS["paper"].weights


class PTATrainerUNet(PTATrainer):
    """PTATrainer with pix2pix's U-Net."""

    generator: ClassVar[str] = "unet"


class PTATrainerHybrid(PTATrainer):
    """PTATrainer with attention among foreground tokens; judges learn smoothed labels, as in the authors' code."""

    generator: ClassVar[str] = "hybrid"
    labels: ClassVar[JudgeLabels] = SMOOTHED


class PTATrainer25D(PTATrainer):
    """PTATrainer that is shown a slice and both its neighbours (extension; the gain is unmeasured)."""

    slices: ClassVar[int] = 3


class PTATrainerStructure(PTATrainer):
    """PTATrainer whose edges have to lie where those of its input do (extension; no gain in one short run)."""

    own_weights: ClassVar[Mapping[str, float]] = {**PTA_PRESETS["code"].weights, "gradient": 5.0}
