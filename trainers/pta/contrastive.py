"""Translation in one direction by contrasted places (CUT, arXiv 2007.15651), on the same slices as PTA; extension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from nnunet_uhf.errors import exit_on_user_error
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.pta.contrastive import CUT_WEIGHTS, CUTNet, cut_losses
from nnunet_uhf.networks.pta.image_pool import ImagePool
from nnunet_uhf.networks.pta.kind import pta_generator
from nnunet_uhf.networks.pta.parts import TranslationParts
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked
from nnunet_uhf.trainers.image_to_image.players import Outcome
from nnunet_uhf.trainers.pta.translation import GENERATOR, JUDGE, TranslationTrainer


class CUTTrainer(TranslationTrainer):
    """One generator, low field to high field: each place of an image must be found again in its input.

    Generator and judge are those of PTATrainer; there is no way back and nothing is trained beforehand. `enhance` takes
    its models, `pseudo-pairs` with `--from source` alone.
    """

    own_weights: ClassVar[Mapping[str, float]] = CUT_WEIGHTS

    def describe_networks(self, asked: Asked) -> NetworksEntry:
        """The generator and its judge."""
        there = self.generator_of(asked, self.patch_of(asked), "source", "target", slices=1)
        parts = TranslationParts(
            decoder=there.decoder,
            judges={"target": self.judge_of(asked)},
            target_intensity=self.intensity_of(asked, "target"),
            source_intensity=self.intensity_of(asked, "source"),
        )
        return NetworksEntry(network=f"pta_{self.generator}", architecture=there.architecture, parts=parts.as_json())

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """All networks with random weights."""
        networks, parts = block.networks, TranslationParts.of(block.networks.parts)
        generator = pta_generator(networks.network.removeprefix("pta_"), networks.architecture, parts.decoder)
        return CUTNet(generator, PatchGAN(**parts.judges["target"]))

    @exit_on_user_error
    def initialize(self) -> None:
        """As nnU-Net, with an empty pool of earlier images."""
        super().initialize()
        self.pool = ImagePool()

    def outcome_of(self, batch: dict[str, Any]) -> Outcome:
        """The losses of both players; in training some images that the judge sees are earlier ones."""
        source, target = self.images_of(batch)
        if torch.is_grad_enabled():  # no validation
            output = self.network(source, target, self.pool.draw(len(source), (1, *source.shape[2:]), self.device))
            self.pool.store(output.made_target.float())
        else:
            output = self.network(source, target)
        generator, judge = cut_losses(output, weights=self.weights)
        losses = {
            name: torch.stack(list(part.values())).sum() for name, part in ((GENERATOR, generator), (JUDGE, judge))
        }
        return Outcome(losses=losses, terms={**generator, **judge}, image=output.made_target)
