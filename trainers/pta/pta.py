"""Adversarial translation of low-field slices into high-field-like ones without pairs (PTA, arXiv 2503.05339)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor, nn

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.pta.image_pool import ImagePool
from nnunet_uhf.networks.pta.kind import pta_generator
from nnunet_uhf.networks.pta.losses import (
    PTA_PRESETS,
    JudgeLabels,
    generator_losses,
    judge_losses,
)
from nnunet_uhf.networks.pta.matching import assignment
from nnunet_uhf.networks.pta.parts import Settings, TranslationParts
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.networks.pta.slice_encoder import SlicePerception
from nnunet_uhf.networks.pta.structure_net import StructureNet
from nnunet_uhf.networks.pta.training import PTANet
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked
from nnunet_uhf.trainers.image_to_image.players import Outcome
from nnunet_uhf.trainers.pta.partners import nearest_partners
from nnunet_uhf.trainers.pta.pretext import Pretext, find_pretext, require_same_data
from nnunet_uhf.trainers.pta.slice_gap import Embedder, embedders
from nnunet_uhf.trainers.pta.slice_loader import Domain, DomainSliceLoader
from nnunet_uhf.trainers.pta.translation import GENERATOR, JUDGE, TranslationTrainer

STRUCTURE, PERCEPTION = "structure", "perception"


class PTATrainer(TranslationTrainer):
    """Cycle-consistent translation by the generator `resnet` with the losses of the authors' code (preset `code`).

    Beyond them the structure term reaches the generator, which in that code it never does. Needs a finished
    `LSCTrainer`; `SGPTrainer`, too, where the losses hold an image against its partner (preset `paper`): with those of
    `code` the order of high-field slices changes nothing.
    """

    preset: ClassVar[str] = "code"
    labels: ClassVar[JudgeLabels] = JudgeLabels()
    structure_in_generator: ClassVar[bool] = True
    """The authors' code detaches here, and its structure term does nothing (`False`)."""
    own_weights: ClassVar[Mapping[str, float]] = PTA_PRESETS["code"].weights

    # ---- before a training

    @property
    def beside(self) -> bool:
        """Whether the judge of high-field images sees each beside itself put right."""
        return PTA_PRESETS[self.preset].beside

    @property
    def matching(self) -> str:
        """Which high-field slice a low-field one is held against: as asked, else `bank` where a loss depends on it."""
        return self.task.matching or ("bank" if self.weights["synthesis"] else "position")

    def describe_networks(self, asked: Asked) -> NetworksEntry:
        """The generator, the way back, judges, the pretext networks that are needed."""
        patch = self.patch_of(asked)
        there = self.generator_of(asked, patch, "source", "target", slices=self.slices)
        self.pretexts: dict[str, Pretext] = {}
        if self.weights["structure"] or self.beside:
            self.pretexts[STRUCTURE] = find_pretext("LSCTrainer", type(self).__name__, asked)
        if self.weights["synthesis"] and self.matching != "position":
            self.pretexts[PERCEPTION] = find_pretext("SGPTrainer", type(self).__name__, asked)
        parts = TranslationParts(
            decoder=there.decoder,
            judges={"target": self.judge_of(asked, channels=1 + self.beside), "source": self.judge_of(asked)},
            target_intensity=self.intensity_of(asked, "target"),
            source_intensity=self.intensity_of(asked, "source"),
            back=self.generator_of(asked, patch, "target", "source", slices=1),
            pretexts={name: pretext.part() for name, pretext in self.pretexts.items()},
            settings=Settings(
                preset=self.preset,
                matching=self.matching,
                structure_in_generator=self.structure_in_generator,
                cycle=bool(self.weights["cycle"]),
                identity=bool(self.weights["identity"]),
            ),
        )
        return NetworksEntry(network=f"pta_{self.generator}", architecture=there.architecture, parts=parts.as_json())

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """All networks with random weights."""
        networks, parts = block.networks, TranslationParts.of(block.networks.parts)
        generator, structure = networks.network.removeprefix("pta_"), parts.pretexts.get(STRUCTURE)
        assert parts.back is not None
        assert parts.settings is not None
        return PTANet(
            pta_generator(generator, networks.architecture, parts.decoder),
            pta_generator(generator, parts.back.architecture, parts.back.decoder),
            PatchGAN(**parts.judges["target"]),
            PatchGAN(**parts.judges["source"]),
            None if structure is None else StructureNet(**structure.architecture),
            structure_in_generator=parts.settings.structure_in_generator,
            cycle=parts.settings.cycle,
            identity=parts.settings.identity,
        )

    # ---- the training

    @property
    def translation(self) -> PTANet:
        """The network without the wrappers of DDP and torch.compile."""
        return cast(PTANet, super().translation)

    @exit_on_user_error
    def initialize(self) -> None:
        """Build everything as nnU-Net does, then load the structure network, which no weight initialiser must touch."""
        super().initialize()
        self.pools = {"target": ImagePool(), "source": ImagePool()}
        if STRUCTURE in self.pretexts:
            assert self.translation.structure is not None
            self.translation.structure.load_state_dict(dict(self.pretexts[STRUCTURE].weights))
        for name, pretext in self.pretexts.items():
            self.print_to_log_file(f"{name}: {pretext.trainer} {pretext.sha256[:8]}")

    def check_block(self, before: TrainingBlock, checkpoint: Path) -> None:
        """UHFError when pretext networks were trained anew since a checkpoint, or other terms are asked for."""
        then, now = (TranslationParts.of(block.networks.parts) for block in (before, self.block))
        for name in ("pretexts", "settings"):
            if getattr(then, name) != getattr(now, name):
                raise UHFError(
                    f"{checkpoint}: it was trained with other {name} than there are now; train anew without --c, or "
                    "restore what changed"
                )

    def check_checkpoint(self, checkpoint: Path) -> None:
        """UHFError when :meth:`check_block` has one."""
        plans = load_checkpoint_weights(checkpoint)["init_args"]["plans"]
        self.check_block(TrainingBlock.of(plans, self.configuration_name, where=checkpoint), checkpoint)

    @exit_on_user_error
    def on_train_start(self) -> None:
        """As nnU-Net, once it is sure that the pretext networks are of the same split and images."""
        if not self.was_initialized:
            self.initialize()
        self.do_split()
        for pretext in self.pretexts.values():
            require_same_data(pretext, self.data)
        super().on_train_start()

    @exit_on_user_error
    def on_train_end(self) -> None:
        """Make sure that training left the structure network alone, then finish."""
        if STRUCTURE in self.pretexts:
            assert self.translation.structure is not None
            if weights_sha256(self.translation.structure.state_dict()) != self.pretexts[STRUCTURE].sha256:
                raise UHFError(
                    f"the structure network in memory is not that of {self.pretexts[STRUCTURE].checkpoint}; train "
                    "without -pretrained_weights"
                )
        super().on_train_end()

    def outcome_of(self, batch: dict[str, Any]) -> Outcome:
        """The losses of both players; in training some images that the judges see are earlier ones."""
        source, target = self.images_of(batch)
        if self.matching == "hungarian" and PERCEPTION in self.pretexts:
            target = target[self._order(batch)]
        if torch.is_grad_enabled():  # no validation
            shape = (1, *source.shape[2:])
            draws = [self.pools[name].draw(len(source), shape, self.device) for name in ("target", "source")]
            output = self.network(source, target, *draws)
            self.pools["target"].store(output.made_target.float())
            self.pools["source"].store(output.made_source.float())
        else:
            output = self.network(source, target)
        labels = batch["target"].to(self.device) > 0
        masks = {"source": labels[:, :1], "target": labels[:, 1:]}
        terms = {
            GENERATOR: generator_losses(output, weights=self.weights, labels=self.labels, masks=masks),
            JUDGE: judge_losses(output, weights=self.weights, labels=self.labels),
        }
        losses = {name: torch.stack(list(part.values())).sum() for name, part in terms.items()}
        return Outcome(losses=losses, terms={**terms[GENERATOR], **terms[JUDGE]}, image=output.made_target)

    # ---- matching

    def loader_of(
        self, domains: Mapping[str, Domain], *, crop: Sequence[int], transforms: BasicTransform
    ) -> DomainSliceLoader:
        """As every unpaired trainer; with the partners of the bank where they matter."""
        loader = super().loader_of(domains, crop=crop, transforms=transforms)
        if self.matching == "bank" and PERCEPTION in self.pretexts:
            loader.partners = nearest_partners(domains, self._perception(), self.task.subject)
        return loader

    def _perception(self) -> dict[str, Embedder]:
        if not hasattr(self, "_embedders"):
            pretext = self.pretexts[PERCEPTION]
            network = SlicePerception(**pretext.block.networks.architecture)
            network.load_state_dict(dict(pretext.weights))
            self._embedders = embedders(network, self.ranges, self.configuration_manager.patch_size, self.device)
        return self._embedders

    @torch.no_grad()
    def _order(self, batch: Mapping[str, Any]) -> Tensor:
        encoders = self._perception()
        source, target = self.unit_images_of(batch)
        return assignment(encoders["source"].encoder.eval()(source), encoders["target"].encoder.eval()(target))
