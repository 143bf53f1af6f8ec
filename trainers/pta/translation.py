"""What trainers of translations share: the generator, its intensities, both players, whole held-out volumes (ours)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch

from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.feature_network import feature_network
from nnunet_uhf.keepers.training_block import TrainingRole
from nnunet_uhf.networks.pta.contrastive import CUTNet
from nnunet_uhf.networks.pta.generators import TanhHead
from nnunet_uhf.networks.pta.kind import GENERATORS
from nnunet_uhf.networks.pta.parts import GeneratorPart
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.networks.pta.training import PTANet
from nnunet_uhf.nnunet.training_data import cases_of_fold
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.export.intensity import training_intensity
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked, checked_config
from nnunet_uhf.trainers.image_to_image.logger import PatchQuality
from nnunet_uhf.trainers.image_to_image.players import Outcome, Player, Schedule, trainable
from nnunet_uhf.trainers.pta.unpaired_trainer import UnpairedTrainer
from nnunet_uhf.trainers.pta.unpaired_validation import HeldOutTranslations

GENERATOR, JUDGE = "generator", "judge"


def held_then_linear(epoch: int, epochs: int) -> float:
    """1 for two thirds of the training, then along a straight line to nearly 0 (PTA's code: 100 of 150 epochs)."""
    kept = 2 * epochs / 3
    return 1 - max(0.0, epoch + 1 - kept) / (epochs - kept + 1)


class TranslationTrainer(UnpairedTrainer):
    """A generator of high-field-like slices and a judge of them, learning together.

    The last epoch is the model: no number without truth tells a best one.
    """

    role: ClassVar[TrainingRole] = "keeper"
    generator: ClassVar[str] = "resnet"
    learners: ClassVar[tuple[str, ...]] = (GENERATOR, JUDGE)
    learning_rate: ClassVar[float] = 2e-4
    betas: ClassVar[tuple[float, float]] = (0.5, 0.999)
    own_schedule: ClassVar[str] = "constant, then linear"
    schedule: Schedule = staticmethod(held_then_linear)
    epochs: ClassVar[int] = 300
    qualities: ClassVar[tuple[PatchQuality, ...]] = ()
    chosen_by: ClassVar[PatchQuality | None] = None

    # ---- before a training

    def patch_of(self, asked: Asked) -> list[int]:
        """The planned patch; UHFError when it is too small or odd. The feature network, if one is named, is there."""
        patch = [int(size) for size in asked.planned.patch_size]
        if min(patch) < PatchGAN.SMALLEST or any(size % 2 for size in patch):
            raise UHFError(
                f"plans {asked.plans['plans_name']} of {asked.dataset}: a patch of {patch}; PTA needs even sizes of "
                f"{PatchGAN.SMALLEST} pixels and more: change patch_size"
            )
        if self.task.features is not None:
            feature_network(self.task.features)  # before hours of training, not after
        return patch

    def generator_of(self, asked: Asked, patch: list[int], source: str, target: str, *, slices: int) -> GeneratorPart:
        """Arguments of the generator from one domain to the other."""
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
        return GeneratorPart(architecture=architecture, decoder=checked_config(TanhHead, head, dataset=asked.dataset))

    def judge_of(self, asked: Asked, *, channels: int = 1) -> dict[str, Any]:
        """Arguments of a judge."""
        size = self.task.architecture_of(PatchGAN)
        return checked_config(PatchGAN, {"in_channels": channels, **size}, dataset=asked.dataset)

    def intensity_of(self, asked: Asked, domain: str) -> dict[str, float]:
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

    # ---- the training

    @property
    def translation(self) -> PTANet | CUTNet:
        """The network without the wrappers of DDP and torch.compile."""
        return cast(PTANet | CUTNet, unwrap(self.network))

    def players(self) -> tuple[Player, ...]:
        """Generators, and judges."""
        network = self.translation
        groups = {GENERATOR: network.generators(), JUDGE: network.judges()}
        return tuple(
            self.player(name, tuple(parameter for part in parts for parameter in trainable(part)))
            for name, parts in groups.items()
        )

    def quality_of(self, batch: dict[str, Any], outcome: Outcome) -> dict[str, list[float]]:
        """None: without the truth no number of a patch says that it is better."""
        return {}

    # ---- whole volumes

    def judged_cases(self) -> list[str]:
        """Low-field cases."""
        return [case for case in super().judged_cases() if self.domain_of(case) == "source"]

    def held_out_images(self) -> HeldOutTranslations:
        """Whole volumes, against the truth where a pair is held out, and without it."""
        training, validation = self.do_split()
        features, network = self.task.features, self.translation
        return HeldOutTranslations(
            network=network,
            back=network.back if isinstance(network, PTANet) else None,
            dataset=self.dataset_class(self.preprocessed_dataset_folder, sorted({*training, *validation})),
            learnt=[case for case in training if self.domain_of(case) == "target"],
            held_out=[case for case in validation if self.domain_of(case) == "target"],
            truth=self.task.held_out_pairs,
            ranges=self.ranges,
            features=None if features is None else feature_network(features, device=self.device),
            slices=self.slices,
            plans=self.plans_manager,
            configuration=self.configuration_manager,
            file_ending=self.dataset_json["file_ending"],
            device=self.device,
        )

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Means of every image over the cases that have it, and how far the sets of images are from each other."""
        return self.held_out_images().summary(rows)
