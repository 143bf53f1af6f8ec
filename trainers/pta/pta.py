"""Adversarial translation of low-field slices into high-field-like ones without pairs (PTA, arXiv 2503.05339)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor, nn

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock, TrainingRole
from nnunet_uhf.networks.pta.generators import TanhHead
from nnunet_uhf.networks.pta.image_pool import ImagePool
from nnunet_uhf.networks.pta.kind import GENERATORS, pta_generator
from nnunet_uhf.networks.pta.losses import (
    PTA_PRESETS,
    JudgeLabels,
    generator_losses,
    judge_losses,
)
from nnunet_uhf.networks.pta.matching import assignment
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.networks.pta.slice_encoder import SlicePerception
from nnunet_uhf.networks.pta.structure_net import StructureNet
from nnunet_uhf.networks.pta.training import PTANet
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.training_data import cases_of_fold
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.export.intensity import training_intensity
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked, JudgesVolumes, checked_config
from nnunet_uhf.trainers.image_to_image.logger import PatchQuality
from nnunet_uhf.trainers.image_to_image.players import Outcome, Player, Schedule, trainable
from nnunet_uhf.trainers.pta.partners import nearest_partners
from nnunet_uhf.trainers.pta.pretext import Pretext, find_pretext, require_same_fold
from nnunet_uhf.trainers.pta.slice_gap import Embedder, embedders
from nnunet_uhf.trainers.pta.slice_loader import Domain, DomainSliceLoader
from nnunet_uhf.trainers.pta.unpaired_trainer import UnpairedTrainer
from nnunet_uhf.trainers.pta.unpaired_validation import HeldOutTranslations, summarise_translations

GENERATOR, JUDGE = "generator", "judge"
STRUCTURE, PERCEPTION = "structure", "perception"
SMALLEST_SIDE = 32
"""Pixels of a patch, for the judge."""


def held_then_linear(epoch: int, epochs: int) -> float:
    """1 for two thirds of the training, then along a straight line to nearly 0 (PTA's code: 100 of 150 epochs)."""
    kept = 2 * epochs / 3
    return 1 - max(0.0, epoch + 1 - kept) / (epochs - kept + 1)


class PTATrainer(UnpairedTrainer):
    """Cycle-consistent translation by the generator `resnet` with the losses of the authors' code (preset `code`).

    Beyond them the structure term reaches the generator, which in that code it never does. Needs a finished
    `LSCTrainer`; `SGPTrainer`, too, where the losses hold an image against its partner (preset `paper`): with those of
    `code` the order of high-field slices changes nothing. The last epoch is the model: no number without truth tells a
    best one.
    """

    role: ClassVar[TrainingRole] = "keeper"
    preset: ClassVar[str] = "code"
    generator: ClassVar[str] = "resnet"
    labels: ClassVar[JudgeLabels] = JudgeLabels()
    structure_in_generator: ClassVar[bool] = True
    """The authors' code detaches here, and its structure term does nothing (`False`)."""
    learners: ClassVar[tuple[str, ...]] = (GENERATOR, JUDGE)
    own_weights: ClassVar[Mapping[str, float]] = PTA_PRESETS["code"].weights
    learning_rate: ClassVar[float] = 2e-4
    betas: ClassVar[tuple[float, float]] = (0.5, 0.999)
    own_schedule: ClassVar[str] = "constant, then linear"
    schedule: Schedule = staticmethod(held_then_linear)
    epochs: ClassVar[int] = 300
    qualities: ClassVar[tuple[PatchQuality, ...]] = ()
    chosen_by: ClassVar[PatchQuality | None] = None

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
        """`architecture` of the trunk, `decoder` its head, `back`, `judges`; the pretext networks that are needed."""
        patch = [int(size) for size in asked.planned.patch_size]
        if min(patch) < SMALLEST_SIDE or any(size % 2 for size in patch):
            raise UHFError(
                f"plans {asked.plans['plans_name']} of {asked.dataset}: a patch of {patch}; PTA needs even sizes of "
                f"{SMALLEST_SIDE} pixels and more: change patch_size"
            )
        trunk, decoder = self._generator(asked, patch, "source", "target", slices=self.slices)
        back, back_decoder = self._generator(asked, patch, "target", "source", slices=1)
        size = self.task.architecture_of(PatchGAN)
        judges = {
            "target": checked_config(PatchGAN, {"in_channels": 1 + self.beside, **size}, dataset=asked.dataset),
            "source": checked_config(PatchGAN, size, dataset=asked.dataset),
        }
        self.pretexts: dict[str, Pretext] = {}
        if self.weights["structure"] or self.beside:
            self.pretexts[STRUCTURE] = find_pretext("LSCTrainer", type(self).__name__, asked)
        if self.weights["synthesis"] and self.matching != "position":
            self.pretexts[PERCEPTION] = find_pretext("SGPTrainer", type(self).__name__, asked)
        pretexts = {name: pretext.as_json() for name, pretext in self.pretexts.items()}
        own = {"preset": self.preset, "matching": self.matching, "structure_in_generator": self.structure_in_generator}
        return NetworksEntry(
            network=f"pta_{self.generator}",
            architecture=trunk,
            parts={
                "decoder": decoder,
                "back": {"architecture": back, "decoder": back_decoder},
                "judges": judges,
                "pretexts": pretexts,
                "translation": own,
                "terms": {name: bool(self.weights[name]) for name in ("cycle", "identity")},
                "target_intensity": self._intensity(asked, "target"),
                "source_intensity": self._intensity(asked, "source"),
            },
        )

    def _generator(
        self, asked: Asked, patch: list[int], source: str, target: str, *, slices: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        trunk = GENERATORS[self.generator]
        planned: dict[str, Any] = {"in_channels": slices, "source_range": self.ranges[source]}
        if self.generator == "hybrid":
            planned["patch_size"] = patch
        if self.generator == "unet":
            planned["halvings"] = min(7, min(patch).bit_length() - 1)
        options = {**planned, **self.task.architecture_of(trunk)}
        architecture = checked_config(trunk, options, dataset=asked.dataset)
        with torch.device("meta"):
            width = trunk(**architecture).features_out
        head = {"generator": self.generator, "features": width, "target_range": self.ranges[target]}
        return architecture, checked_config(TanhHead, head, dataset=asked.dataset)

    def _intensity(self, asked: Asked, domain: str) -> dict[str, float]:
        """What maps z-scores of a domain to its images' typical values."""
        training, _ = cases_of_fold(asked.preprocessed, asked.planned.data_identifier, asked.fold)
        raw = os.environ.get("nnUNet_raw")  # noqa: SIM112 - nnU-Net's name
        return training_intensity(
            None if not raw else Path(raw) / asked.dataset,
            asked.plans,
            asked.dataset_json,
            configuration=asked.configuration,
            channel=0,
            cases=[case for case in self.learnable(training) if self.domain_of(case) == domain],
        )

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """All networks with random weights."""
        networks = block.networks
        parts = {name: networks.part(name) or {} for name in ("decoder", "back", "judges", "pretexts", "terms")}
        generator = networks.network.removeprefix("pta_")
        structure = parts["pretexts"].get(STRUCTURE)
        return PTANet(
            pta_generator(generator, networks.architecture, parts["decoder"]),
            pta_generator(generator, parts["back"]["architecture"], parts["back"]["decoder"]),
            PatchGAN(**parts["judges"]["target"]),
            PatchGAN(**parts["judges"]["source"]),
            None if structure is None else StructureNet(**structure["architecture"]),
            structure_in_generator=bool((networks.part("translation") or {}).get("structure_in_generator", True)),
            **parts["terms"],
        )

    # ---- the training

    @property
    def translation(self) -> PTANet:
        """The network without the wrappers of DDP and torch.compile."""
        return cast(PTANet, unwrap(self.network))

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
        for name in ("pretexts", "translation", "terms"):
            if (before.networks.part(name) or {}) != (self.block.networks.part(name) or {}):
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
        """As nnU-Net, once it is sure that the pretext networks have not seen what is held out."""
        if not self.was_initialized:
            self.initialize()
        self.do_split()
        for pretext in self.pretexts.values():
            require_same_fold(pretext, self.data)
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

    def players(self) -> tuple[Player, ...]:
        """Both generators, and both judges."""
        network = self.translation
        groups = {GENERATOR: network.generators(), JUDGE: network.judges()}
        return tuple(
            self.player(name, tuple(parameter for part in parts for parameter in trainable(part)))
            for name, parts in groups.items()
        )

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

    def quality_of(self, batch: dict[str, Any], outcome: Outcome) -> dict[str, list[float]]:
        """None: without the truth no number of a patch says that it is better."""
        return {}

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

    # ---- whole volumes

    def judged_cases(self) -> list[str]:
        """Low-field cases."""
        return [case for case in super().judged_cases() if self.domain_of(case) == "source"]

    def held_out_images(self) -> JudgesVolumes:
        """Whole volumes, against the truth where a pair is held out, and without it."""
        training, validation = self.do_split()
        return HeldOutTranslations(
            network=self.translation,
            dataset=self.dataset_class(self.preprocessed_dataset_folder, sorted({*training, *validation})),
            learnt=[case for case in training if self.domain_of(case) == "target"],
            held_out=[case for case in validation if self.domain_of(case) == "target"],
            truth=self.task.held_out_pairs,
            slices=self.slices,
            plans=self.plans_manager,
            configuration=self.configuration_manager,
            file_ending=self.dataset_json["file_ending"],
            device=self.device,
        )

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Means of every image over the cases that have it."""
        return summarise_translations(rows)
