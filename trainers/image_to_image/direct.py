"""Training from image to image by the error of the image alone (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch.nn import functional as F

from nnunet_uhf.keepers.training_block import TrainingRole
from nnunet_uhf.trainers.image_to_image.pair_source import Pair
from nnunet_uhf.trainers.image_to_image.players import EVERYTHING, Outcome
from nnunet_uhf.trainers.image_to_image.trainer import ImageToImageTrainer


class DirectTrainer(ImageToImageTrainer):
    """Source in, target out, by mean absolute error; no teacher and no judge."""

    role: ClassVar[TrainingRole] = "keeper"
    own_weights: ClassVar[Mapping[str, float]] = {"image": 100.0}

    def compute(self, pair: Pair) -> Outcome:
        """The mean absolute error of the network's image."""
        image = self.network(pair.source)
        loss = self.weights["image"] * F.l1_loss(image.float(), pair.target.float())
        return Outcome(losses={EVERYTHING: loss}, terms={"image": loss}, image=image)
