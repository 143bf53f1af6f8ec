"""nnU-Net trainers of Uni-COAL: any modality from any other, at any slice distance, from 2d plans."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, distributed, nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.slice_volumes import SliceVolumes, fixed_noise
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock, TrainingRole
from nnunet_uhf.networks.unicoal.adversarial import AdversarialNet, finite_gradients
from nnunet_uhf.networks.unicoal.discriminator import Discriminator
from nnunet_uhf.networks.unicoal.kind import KIND
from nnunet_uhf.networks.unicoal.modalities import Modalities
from nnunet_uhf.networks.unicoal.network import UniCOAL, architecture_of, decoder_of
from nnunet_uhf.networks.unicoal.perceptual import VARIABLE, SAMPrior, read_sam
from nnunet_uhf.networks.unicoal.presets import DiscriminatorArguments, asked_sizes
from nnunet_uhf.networks.unicoal.weights import UNICOAL_WEIGHTS
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.routes.modalities import ModalityTask
from nnunet_uhf.routes.table import read_task_of
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked, ImageTrainer
from nnunet_uhf.trainers.image_to_image.patch_quality import data_range, patch_psnr, patch_ssim
from nnunet_uhf.trainers.image_to_image.players import Outcome, Player, Schedule, trainable
from nnunet_uhf.trainers.unicoal.asking import AsksCases
from nnunet_uhf.trainers.unicoal.batches import Sample, read_batch
from nnunet_uhf.trainers.unicoal.reading import ReadingPlan
from nnunet_uhf.trainers.unicoal.validation import HeldOutModalities, summarise_tasks

BATCH = 16  # the original's
GENERATOR, DISCRIMINATOR = "generator", "discriminator"


def constant_then_linear(epoch: int, epochs: int) -> float:
    """The original's schedule: the whole learning rate for half of the epochs, then down to nearly 0."""
    half = epochs / 2
    return 1.0 if epoch < half else 1 - (epoch - half) / (epochs - half)


class UniCOALTrainer(AsksCases, ImageTrainer):
    """Adversarial, with L1 and, where the user has its weights, the SAM prior.

    Slices are read from nnU-Net's preprocessed 2d data, at real places, under their profile; rotation, scaling and
    mirroring are nnU-Net's. As in the original nothing changes intensities. Validation and files use the average of the
    generator's weights.

    Raises:
        SystemExit: as the base; also for plans of other than two dimensions and weights of SAM that cannot be read.
    """

    role: ClassVar[TrainingRole] = "keeper"
    epochs: ClassVar[int] = 100
    adversarial: ClassVar[bool] = True
    wants_prior: ClassVar[bool] = True
    betas: ClassVar[tuple[float, float]] = (0.0, 0.99)
    learning_rates: ClassVar[Mapping[str, float]] = {GENERATOR: 2.5e-3, DISCRIMINATOR: 2e-3}
    learning_rate: ClassVar[float] = learning_rates[GENERATOR]
    learners: ClassVar[tuple[str, ...]] = (GENERATOR, DISCRIMINATOR)
    own_weights: ClassVar[Mapping[str, float]] = UNICOAL_WEIGHTS
    own_schedule: ClassVar[str] = "constant, then linear"
    schedule: Schedule = staticmethod(constant_then_linear)

    # ---- plans

    def read_dataset(self, asked: Asked) -> tuple[TrainingBlock, dict[str, Any]]:
        """The networks of the preset, and patches and batches as they can have them."""
        planned = asked.planned
        self.task = read_task_of(ModalityTask, asked.dataset_json, dataset=asked.dataset)
        if len(planned.patch_size) != 2:
            raise UHFError(
                f"configuration {asked.configuration} of {asked.dataset} has {len(planned.patch_size)} dimensions, and "
                f"{type(self).__name__} makes volumes slice by slice: train 2d, of any plane (nnunet-uhf plan --plane)"
            )
        self.take_wishes(self.task)
        self._prior = self._read_prior()
        known = self.task.modalities
        architecture = architecture_of(
            asked_sizes(self.task.architecture),
            sources=known.in_channels,
            code=known.code,
            numbers=known.numbers,
            filtered=self.task.filtered_encoder,
            dropout=self.task.architecture.get("dropout", 0.5),
        )
        with torch.device("meta"):
            stride = UniCOAL(architecture, decoder_of(architecture)).keeper.plan.stride
        patch_size = [max(size // stride, 1) * stride for size in planned.patch_size]
        self.planned = ReadingPlan(
            masked={name: bool(planned.use_mask_for_norm[channel]) for name, channel in self.task.channels.items()},
            transpose=asked.plans["transpose_forward"],
            size=architecture["size"],
        )
        self.cases = {}
        parts = {
            "modalities": {
                **known.as_json(),
                "sam_sha256": None if self._prior is None else self._prior.sha256,
            },
            "discriminator": self._discriminator_of(architecture) if self.adversarial else None,
        }
        block = TrainingBlock(
            role=self.role,
            source_channel=self.task.channels[known.sources[0]],
            target_channel=self.task.channels[known.targets[0]],
            networks=NetworksEntry(network=KIND.name, architecture=architecture, parts=parts),
            training=self.training_record(),
        )
        return block, {"patch_size": patch_size, "batch_size": min(BATCH, planned.batch_size)}

    @staticmethod
    def _discriminator_of(architecture: Mapping[str, Any]) -> dict[str, Any]:
        alike = {field.name: architecture[field.name] for field in fields(DiscriminatorArguments)}
        return {**alike, "in_channels": architecture["in_channels"] + 1}

    def _read_prior(self) -> SAMPrior | None:
        path = os.environ.get(VARIABLE)
        return read_sam(path) if path and self.wants_prior else None

    def rate_of(self, player: str) -> float:
        """The learning rate that is asked for, else the original's."""
        return self.wishes.learning_rates.get(player, self.learning_rates[player])

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the terms of the losses, by name; the consistency's is that of dataset.json."""
        consistency = {"consistency": self.task.consistency} if self.task.consistency else {}
        return {**super().weights, **consistency}

    def training_record(self) -> dict[str, Any]:
        """What the `uhf` block says of the training."""
        return {
            **super().training_record(),
            "learning_rate": {name: self.rate_of(name) for name in self.learners},
        }

    def start_lines(self) -> list[str]:
        """Modalities, ranges of slices, the SAM prior and the training."""
        known = self.task.modalities
        if self._prior is not None:
            prior = f"on, {Path(os.environ[VARIABLE]).name}, sha256 {self._prior.sha256[:8]}"
        else:
            prior = "off" if not self.wants_prior else f"off: {VARIABLE} names no file of weights"
        apart = f"{known.ratio[0]:g} to {known.ratio[1]:g} voxels apart, gap {known.gap[0]:g} to {known.gap[1]:g} of it"
        return [
            f"Uni-COAL: from {', '.join(known.sources)} to {', '.join(known.targets)}; slices {apart}",
            f"SAM prior: {prior}",
            self.training_line(),
        ]

    # ---- networks

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """Generator, its average and the discriminator with random weights."""
        architecture, judge = block.networks.architecture, block.networks.part(DISCRIMINATOR)
        discriminator = None if judge is None else Discriminator(**judge)
        return AdversarialNet(UniCOAL(architecture, decoder_of(architecture)), discriminator)

    def initialize(self) -> None:
        """As nnU-Net; the prior is no part of what is saved. On CUDA layers are computed again in backward passes."""
        super().initialize()
        net = self.net
        net.prior = self._prior
        net.generator.recompute(self.device.type == "cuda")

    @property
    def net(self) -> AdversarialNet:
        """All networks, out of nnU-Net's wrappers."""
        net = unwrap(self.network)
        assert isinstance(net, AdversarialNet)
        return net

    def _do_i_compile(self) -> bool:
        """Never: the slope of the discriminator needs a second derivative."""
        return False

    def players(self) -> tuple[Player, ...]:
        """The generator, and the discriminator; gradients are kept finite, and clipped only where that is asked for."""
        players = [self.player(GENERATOR, trainable(self.net.generator), clip_norm=None)]
        if self.net.discriminator is not None:
            players.append(self.player(DISCRIMINATOR, trainable(self.net.discriminator), clip_norm=None))
        return tuple(players)

    def _clip_gradients(self) -> None:
        finite_gradients(self.network)
        super()._clip_gradients()

    # ---- steps

    def _sample(self, batch: Mapping[str, Any]) -> Sample:
        data = batch["data"].to(self.device, non_blocking=True)
        length = self.net.generator.decoder.noise
        if self.net.training:
            noise = torch.randn(len(data), length, device=self.device)
        else:
            noise = fixed_noise(length, len(data)).to(self.device)
        return read_batch(data, self.task.modalities, noise, neighbours=bool(self.task.consistency))

    def outcome_of(self, batch: dict[str, Any]) -> Outcome:
        """Losses of generator and discriminator, of one pass; in validation the image of the average."""
        sample = self._sample(batch)
        terms, image = self.network(sample.source, sample.target, sample.question, sample.neighbour)
        weights = self.weights
        losses = {GENERATOR: _sum(terms[name] * weight for name, weight in weights.items() if name in terms)}
        if DISCRIMINATOR in self.learners:
            losses[DISCRIMINATOR] = terms["fake"] + terms["real"] + terms["r1"]
        return Outcome(losses=losses, terms=terms, image=image)

    def learn(self, losses: Mapping[str, Tensor]) -> None:
        """As the base; the average follows."""
        super().learn(losses)
        self.net.follow(self.batch_size * (distributed.get_world_size() if self.is_ddp else 1))

    def quality_of(self, batch: dict[str, Any], outcome: Outcome) -> dict[str, list[float]]:
        """PSNR and SSIM; patches without brain or without contrast are not judged."""
        target = self._sample(batch).target[:, :1]
        brain = (batch["target"].to(self.device) > 0).flatten(1).any(dim=1)
        judged = brain & (data_range(target) > 0)
        truth, image = target[judged], outcome.image[judged].float()
        return {"psnr": patch_psnr(truth, image).tolist(), "ssim": patch_ssim(truth, image).tolist()}

    # ---- whole volumes

    def held_out_images(self) -> HeldOutModalities:
        """Every task of the dataset, by the average of the generator."""
        dataset = self.dataset_class(self.preprocessed_dataset_folder, self.judged_cases())
        self.measure(dataset)
        volumes = SliceVolumes(self.net.average, self.task.modalities, self.configuration_manager, device=self.device)
        return HeldOutModalities(
            volumes=volumes,
            task=self.task,
            plan=self.planned,
            cases=self.cases,
            plans=self.plans_manager,
            configuration=self.configuration_manager,
            file_ending=self.dataset_json["file_ending"],
        )

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A table for every task."""
        return summarise_tasks(rows)

    def check_checkpoint(self, checkpoint: Path) -> None:
        """UHFError when a checkpoint learnt from other modalities or with another prior."""
        plans = load_checkpoint_weights(checkpoint)["init_args"]["plans"]
        before = TrainingBlock.of(plans, self.configuration_name, where=checkpoint)
        then, now = (block.networks.part("modalities") for block in (before, self.block))
        assert then is not None
        assert now is not None
        # by what they mean: a file of version 0.2.0 says nothing of switches that were off
        if (Modalities.of(then), then["sam_sha256"]) != (Modalities.of(now), now["sam_sha256"]):
            raise UHFError(
                f"{checkpoint}: trained with other modalities, slices or SAM weights than dataset.json and {VARIABLE} "
                "have now; restore them, or train anew without --c (version 0.2.0 had no slice_filter: set it to false "
                "in uhf.extensions to go on with its trainings)"
            )


def _sum(terms: Any) -> Tensor:
    return torch.stack([term.float() for term in terms]).sum()


class UniCOALTrainerNoSAM(UniCOALTrainer):
    """UniCOALTrainer without the SAM prior, whatever file there is."""

    wants_prior: ClassVar[bool] = False


class UniCOALTrainerNoAdversarial(UniCOALTrainer):
    """UniCOALTrainer without a discriminator: no invented detail, for images that a keeper shall learn from (E10)."""

    adversarial: ClassVar[bool] = False
    learners: ClassVar[tuple[str, ...]] = (GENERATOR,)
    own_weights: ClassVar[Mapping[str, float]] = {
        name: w for name, w in UNICOAL_WEIGHTS.items() if name != "adversarial"
    }
