"""Slice-gap perception: learning where a slice lies, from slices of different subjects (PTA; training ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.pta.generators import to_unit
from nnunet_uhf.networks.pta.matching import contrastive_loss, nearest, soft_targets
from nnunet_uhf.networks.pta.slice_encoder import SliceEncoder, SlicePerception
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked, JudgesVolumes, checked_config
from nnunet_uhf.trainers.image_to_image.logger import PatchQuality
from nnunet_uhf.trainers.image_to_image.players import EVERYTHING, Outcome, Schedule, polynomial
from nnunet_uhf.trainers.pta.pretext_trainer import PretextTrainer
from nnunet_uhf.trainers.pta.slices import LabelledSlices, centred_crop, cut_slices, labelled_slices

FOUND = PatchQuality("positions_found", "positions found")
"""1 - mean error of the nearest of a batch over that of a random one: 1 where every slice finds its place."""
SLICE_ENCODER = "slice_encoder"
BATCH = 32
RANDOM_ERROR = 1 / 3
"""Mean distance of two places drawn evenly from 0 to 1."""
WARM_UP = 0.05
"""Share of the training over which the learning rate rises."""


def warmed_up(epoch: int, epochs: int) -> float:
    """nnU-Net's schedule behind a linear rise."""
    return min(1.0, (epoch + 1) / max(1.0, WARM_UP * epochs)) * polynomial(epoch, epochs)


class SGPTrainer(PretextTrainer):
    """Slices at equal relative positions of different subjects become alike (symmetric InfoNCE, soft targets).

    One encoder for both domains by default; `"architecture": {"encoders": 2}` for two. Each image is augmented by a
    draw of its own, so that no pose gives a pair away. It makes no image and no keeper: trainers of PTA find it.
    """

    learners: ClassVar[tuple[str, ...]] = (SLICE_ENCODER,)
    own_schedule: ClassVar[str] = "polynomial after a warm-up"
    schedule: Schedule = staticmethod(warmed_up)
    apart: ClassVar[bool] = True
    qualities: ClassVar[tuple[PatchQuality, ...]] = (FOUND,)
    chosen_by: ClassVar[PatchQuality | None] = FOUND

    def describe_networks(self, asked: Asked) -> NetworksEntry:
        """`architecture`: encoders and their sizes."""
        options = self.task.architecture_of(SlicePerception)
        return NetworksEntry(
            network=SLICE_ENCODER, architecture=checked_config(SlicePerception, options, dataset=asked.dataset)
        )

    @staticmethod
    def batch_of(planned: int) -> int:
        """At least 32 slices: each is held against all others of its batch."""
        return max(planned, BATCH)

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """Encoders with random weights."""
        return SlicePerception(**block.networks.architecture)

    def outcome_of(self, batch: dict[str, Any]) -> Outcome:
        """The loss; its embeddings of both domains, `(B, 2, E)`."""
        source, target, scale = self.network(*self.unit_images_of(batch))
        positions = batch["position"].to(self.device)
        loss = contrastive_loss(source, target, scale, soft_targets(*positions.unbind(1)))
        return Outcome(
            losses={EVERYTHING: loss}, terms={"contrastive": loss}, image=torch.stack([source, target], dim=1)
        )

    def quality_of(self, batch: dict[str, Any], outcome: Outcome) -> dict[str, list[float]]:
        """How near to its own place each source finds its target in the batch."""
        source, target = outcome.image.unbind(1)
        low, high = batch["position"].to(self.device).unbind(1)
        error = (high[nearest(source, target)] - low).abs()
        return {FOUND.name: (1 - error / RANDOM_ERROR).tolist()}

    def held_out_images(self) -> JudgesVolumes:
        """Held-out low-field slices find their place among the high-field slices that were learnt from."""
        training, _ = self.do_split()
        dataset = self.dataset_class(self.preprocessed_dataset_folder, list(training))
        encoders = embedders(unwrap(self.network), self.ranges, self.configuration_manager.patch_size, self.device)
        bank = [
            encoders["target"].of_case(case, *dataset.load_case(case)[:2])
            for case in training
            if self.domain_of(case) == "target"
        ]
        return HeldOutPositions(encoders["source"], bank)

    def judged_cases(self) -> list[str]:
        """Low-field cases."""
        return [case for case in super().judged_cases() if self.domain_of(case) == "source"]


@dataclass(frozen=True)
class Embedded:
    """The labelled slices of a case and their embeddings `(slices, E)`, on the CPU."""

    case: str
    slices: LabelledSlices
    embeddings: Tensor


@dataclass(frozen=True)
class Embedder:
    """Embeds whole cases of one domain.

    Attributes:
        encoder: of the domain.
        scores: z-scores that become -1 and 1.
        patch_size: rows and columns around the centre of a slice's labels.
        device: where to compute.
    """

    encoder: SliceEncoder
    scores: Sequence[float]
    patch_size: Sequence[int]
    device: torch.device

    @torch.no_grad()
    def of_case(self, case: str, data: Any, labels: Any, *, batch: int = 64) -> Embedded:
        """Embeddings of all labelled slices of a preprocessed case."""
        self.encoder.eval()
        found = labelled_slices(case, labels)
        crops = [
            centred_crop(cut_slices(data, int(number)), box, self.patch_size, fill=0.0)
            for number, box in zip(found.numbers, found.boxes, strict=True)
        ]
        images = to_unit(torch.from_numpy(np.stack(crops)), self.scores).split(batch)
        embeddings = [self.encoder(part.to(self.device)).cpu() for part in images]
        return Embedded(case, found, torch.cat(embeddings))


def embedders(network: nn.Module, ranges: Any, patch_size: Sequence[int], device: torch.device) -> dict[str, Embedder]:
    """The embedders of both domains of a trained :class:`SlicePerception`."""
    assert isinstance(network, SlicePerception)
    network.to(device)
    return {
        domain: Embedder(encoder, ranges[domain], tuple(int(n) for n in patch_size), device)
        for domain, encoder in (("source", network.source), ("target", network.target))
    }


@dataclass(frozen=True)
class HeldOutPositions:
    """How near to their place held-out low-field slices find high-field ones."""

    embedder: Embedder
    bank: Sequence[Embedded]

    def enhance(self, case: str, loaded: Sequence[Any], folder: Path) -> dict[str, Any]:
        """Errors of the nearest of the bank and of a random slice; no image is written."""
        embedded = self.embedder.of_case(case, *loaded[:2])
        own = torch.from_numpy(embedded.slices.positions)
        places = torch.cat([torch.from_numpy(one.slices.positions) for one in self.bank])
        found = places[nearest(embedded.embeddings, torch.cat([one.embeddings for one in self.bank]))]
        random = (own[:, None] - places[None]).abs().mean()
        return {
            "case": case,
            "bank": {"position_error": float((found - own).abs().mean()), "random_error": float(random)},
        }
