"""Trains a space-to-depth keeper on the simulated pairs: by the image, by the structures, or by both."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from make_keepers.batches import Batch, Draw, draw_batch
from make_keepers.maps import CLASSES
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.networks.blocks import pointwise
from nnunet_uhf.networks.space_to_depth.keeper import DepthToSpaceHead, SpaceToDepthKeeper

TAUGHT_BY = ("image", "structures", "both")
STRUCTURE_WEIGHT = 0.25
"""Of the cross entropy of the structures, beside the mean absolute error of the image (ours)."""
EVERY = 500
"""Steps between two looks at the held-out draws, and two checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What one training is told.

    Attributes:
        dim: 2 or 3.
        width: of the keeper.
        taught_by: `image` (as `UHFKeeperTrainerDirect`), `structures` (a control without any image to make), `both`.
        steps: of the optimiser.
        batch: patches a step.
        patch: voxels of a patch along every axis.
        rate: learning rate at the start; it decays as nnU-Net's.
        seed: of weights and batches.
    """

    dim: int
    width: int
    taught_by: str
    steps: int
    batch: int
    patch: int
    rate: float = 2e-3
    seed: int = 0


class StructureHeads(nn.Module):
    """Structures from every map by one matrix product a voxel; in training only, no file holds them."""

    def __init__(self, keeper: SpaceToDepthKeeper) -> None:
        super().__init__()
        self.strides = keeper.strides
        self.heads = nn.ModuleList(
            pointwise(keeper.dim, channels, len(CLASSES) + 1, bias=True) for channels in keeper.channels[:-1]
        )

    def loss(self, maps: Sequence[Tensor], structures: Tensor) -> Tensor:
        """Mean over the maps of the cross entropy at the voxels of each."""
        losses = []
        for head, one, step in zip(self.heads, maps, self.strides, strict=False):
            places = tuple(slice(k // 2, None, k) for k in step)
            losses.append(F.cross_entropy(head(one), structures[:, *places]))
        return torch.stack(losses).mean()


class Pupil(nn.Module):
    """Keeper, image head and structure heads in training."""

    def __init__(self, lesson: Lesson) -> None:
        super().__init__()
        self.keeper = SpaceToDepthKeeper(dim=lesson.dim, width=lesson.width)
        self.decoder = DepthToSpaceHead(dim=lesson.dim, width=lesson.width)
        self.structures = StructureHeads(self.keeper)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Of the image and of the structures."""
        maps = self.keeper.features(batch.source)
        image = self.decoder(maps, batch.source.shape[2:])
        return {"image": F.l1_loss(image, batch.target), "structures": self.structures.loss(maps, batch.structures)}


def train(
    lesson: Lesson,
    training: Sequence[Draw],
    held_out: Sequence[Draw],
    folder: Path,
    *,
    device: torch.device,
    seconds: float = math.inf,
) -> Pupil:
    """Train, or go on where a training of the folder was stopped; `log.json` holds the held-out losses.

    After so many `seconds` of this process it stops at the next checkpoint, for a machine that is shared.
    """
    torch.manual_seed(lesson.seed)
    folder.mkdir(parents=True, exist_ok=True)
    pupil = Pupil(lesson).to(device)
    optimiser = torch.optim.Adam(pupil.parameters(), lr=lesson.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (1 - step / lesson.steps) ** 0.9)
    checkpoint, log, first = folder / "latest.pth", [], 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        pupil.load_state_dict(state["pupil"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        log, first = state["log"], state["step"]
    patch = (lesson.patch,) * lesson.dim
    before, start = log[-1]["cpu_seconds"] if log else 0.0, time.process_time()
    for step in range(first, lesson.steps):
        rng = np.random.default_rng((lesson.seed, step))
        batch = on(draw_batch(training, rng, size=lesson.batch, patch=patch), device)
        losses = pupil.losses(batch)
        loss = {
            "image": losses["image"],
            "structures": losses["structures"],
            "both": losses["image"] + STRUCTURE_WEIGHT * losses["structures"],
        }[lesson.taught_by]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(pupil.parameters(), 12)
        optimiser.step()
        schedule.step()
        if (step + 1) % EVERY == 0 or step + 1 == lesson.steps:
            found = held_out_losses(pupil, held_out, lesson, device)
            used = time.process_time() - start
            log.append({"step": step + 1, "cpu_seconds": before + used, **found})
            print(json.dumps(log[-1]), flush=True)
            with written_whole(checkpoint) as temporary:
                torch.save(
                    {
                        "pupil": pupil.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "schedule": schedule.state_dict(),
                        "log": log,
                        "step": step + 1,
                    },
                    temporary,
                )
            if used > seconds:
                break
    (folder / "log.json").write_text(json.dumps(log, indent=1))
    return pupil.eval()


@torch.no_grad()
def held_out_losses(
    pupil: Pupil, draws: Sequence[Draw], lesson: Lesson, device: torch.device, *, batches: int = 8
) -> dict[str, float]:
    """Losses of held-out draws, always of the same patches; `input` is the error of the source itself."""
    pupil.eval()
    found: dict[str, list[float]] = {}
    for number in range(batches):
        rng = np.random.default_rng((10_000, number))
        batch = on(draw_batch(draws, rng, size=lesson.batch, patch=(lesson.patch,) * lesson.dim), device)
        for name, value in pupil.losses(batch).items():
            found.setdefault(name, []).append(float(value))
        found.setdefault("input", []).append(float(F.l1_loss(batch.source, batch.target)))
    pupil.train()
    return {name: float(np.mean(values)) for name, values in found.items()}


def on(batch: Batch, device: torch.device) -> Batch:
    """A batch on the device."""
    return Batch(batch.source.to(device), batch.target.to(device), batch.structures.to(device))
