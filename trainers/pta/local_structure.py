"""Local structure correction: high-field slices with turned and missing blocks are put right (PTA; training ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.pta.corruption import corrupted
from nnunet_uhf.networks.pta.generators import to_unit
from nnunet_uhf.networks.pta.structure_net import StructureNet
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked, JudgesVolumes, checked_config
from nnunet_uhf.trainers.image_to_image.logger import PatchQuality
from nnunet_uhf.trainers.image_to_image.players import EVERYTHING, Outcome, Schedule
from nnunet_uhf.trainers.pta.pretext_trainer import PretextTrainer
from nnunet_uhf.trainers.pta.slices import centred_crop, cut_slices, labelled_slices

GAINED = PatchQuality("psnr_gain", "PSNR gained in the brain", "dB", 2)
STRUCTURE_NET = "structure_net"
LARGEST_BATCH = 8
VALIDATION_SEED = 20_250_305
PEAK = 2.0
"""Of intensities from -1 to 1."""


def linear_to_zero(epoch: int, epochs: int) -> float:
    """From 1 to nearly 0 along a straight line."""
    return 1 - epoch / epochs


class LSCTrainer(PretextTrainer):
    """High-field slices alone: blocks are turned by quarters, a fifth is taken out, and L1 puts them right.

    It makes no keeper: trainers of PTA find it. Its error does not tell pasted from true structure (AUC 0.57 where it
    was tried), so it is no detector of invented detail.
    """

    learners: ClassVar[tuple[str, ...]] = (STRUCTURE_NET,)
    own_schedule: ClassVar[str] = "linear"
    schedule: Schedule = staticmethod(linear_to_zero)
    qualities: ClassVar[tuple[PatchQuality, ...]] = (GAINED,)
    chosen_by: ClassVar[PatchQuality | None] = GAINED

    def describe_networks(self, asked: Asked) -> NetworksEntry:
        """`architecture`: widths of the network."""
        options = self.task.architecture_of(StructureNet)
        return NetworksEntry(
            network=STRUCTURE_NET, architecture=checked_config(StructureNet, options, dataset=asked.dataset)
        )

    @staticmethod
    def batch_of(planned: int) -> int:
        """At most 8 slices."""
        return min(planned, LARGEST_BATCH)

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """A structure network with random weights."""
        return StructureNet(**block.networks.architecture)

    def outcome_of(self, batch: dict[str, Any]) -> Outcome:
        """L1 of the slice put right; beside it, that of the corrupted one."""
        _, target = self.unit_images_of(batch)
        broken, _ = corrupted(target)
        image = self.network(broken)
        loss = F.l1_loss(image.float(), target)
        terms = {"l1": loss, "l1_corrupted": F.l1_loss(broken, target)}
        return Outcome(losses={EVERYTHING: loss}, terms=terms, image=torch.cat([image, broken], dim=1))

    def quality_of(self, batch: dict[str, Any], outcome: Outcome) -> dict[str, list[float]]:
        """How many dB the slice put right is above the corrupted one, in the brain."""
        _, target = self.unit_images_of(batch)
        brain = batch["target"][:, 1:].to(self.device) > 0
        judged = brain.flatten(1).any(dim=1)
        right, broken = (psnr_inside(image.float(), target, brain) for image in outcome.image.split(1, dim=1))
        gained = (right - broken)[judged]
        return {GAINED.name: gained[torch.isfinite(gained)].tolist()}

    def judged_cases(self) -> list[str]:
        """High-field cases."""
        return [case for case in super().judged_cases() if self.domain_of(case) == "target"]

    def held_out_images(self) -> JudgesVolumes:
        """Held-out high-field cases, corrupted by a draw of their own."""
        patch = tuple(int(n) for n in self.configuration_manager.patch_size)
        return HeldOutStructure(unwrap(self.network), self.ranges["target"], patch, self.device)


@dataclass(frozen=True)
class HeldOutStructure:
    """How well held-out slices are put right."""

    network: nn.Module
    scores: Sequence[float]
    patch_size: Sequence[int]
    device: torch.device

    @torch.no_grad()
    def enhance(self, case: str, loaded: Sequence[Any], folder: Path) -> dict[str, Any]:
        """PSNR in the brain (range 2) and L1 of whole slices of a case; no image is written."""
        self.network.eval()
        data, labels = loaded[:2]
        found = labelled_slices(case, labels)
        crops, masks = [], []
        for number, box in zip(found.numbers, found.boxes, strict=True):
            crops.append(centred_crop(cut_slices(data, int(number)), box, self.patch_size, fill=0.0))
            mask = np.asarray(labels[0, int(number)])[None].astype(np.float32)
            masks.append(centred_crop(mask, box, self.patch_size, fill=0.0) > 0)
        truth = to_unit(torch.from_numpy(np.stack(crops)), self.scores)
        seed = int(case_generator(VALIDATION_SEED, case).integers(2**31))
        broken, _ = corrupted(truth, generator=torch.Generator().manual_seed(seed))
        right = torch.cat([self.network(part.to(self.device)).cpu() for part in broken.split(16)])
        brain = torch.from_numpy(np.stack(masks))
        row: dict[str, Any] = {"case": case}
        for name, image in (("put_right", right), ("corrupted", broken)):
            squared = (image - truth)[brain].square().mean()
            row[name] = {
                "psnr_brain": float(10 * torch.log10(PEAK**2 / squared)),
                "l1": float((image - truth).abs().mean()),
            }
        return row


def psnr_inside(image: Tensor, truth: Tensor, inside: Tensor) -> Tensor:
    """PSNR `(B,)` in dB of images `(B, 1, H, W)` from -1 to 1 where a mask of that shape says."""
    count = inside.flatten(1).sum(dim=1).clamp_min(1)
    error = ((image - truth).square() * inside).flatten(1).sum(dim=1) / count
    return 10 * torch.log10(PEAK**2 / error)
