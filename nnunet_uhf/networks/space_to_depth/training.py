"""The space-to-depth keeper in training: beside a teacher, whose maps it is to know, or from image to image (ours)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import crop, initialise_kaiming, pointwise
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.teacher import Teacher
from nnunet_uhf.networks.distillation.training import DistillationOutput, judged, labelled
from nnunet_uhf.networks.folding import unfold
from nnunet_uhf.networks.frozen import KeepsFrozen
from nnunet_uhf.networks.space_to_depth.keeper import DepthToSpaceHead, SpaceToDepthKeeper


class FeatureHeads(nn.Module):
    """The teacher's maps from the keeper's, one matrix product a map; in training only, no file holds them.

    The teacher's finest map, of full resolution, is unfolded from the keeper's finest, as its image is.
    """

    def __init__(self, keeper: SpaceToDepthKeeper, teacher_channels: Sequence[int]) -> None:
        super().__init__()
        self.step = keeper.steps[0]
        finest = pointwise(keeper.dim, keeper.channels[0], teacher_channels[0] * math.prod(self.step), bias=True)
        pairs = zip(keeper.channels, teacher_channels[1:], strict=False)  # the keeper goes one level deeper
        self.heads = nn.ModuleList([finest, *(pointwise(keeper.dim, own, its, bias=True) for own, its in pairs)])
        initialise_kaiming(self)

    def forward(self, maps: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What the keeper knows of the teacher's maps, and those maps, where both cover the image; finest first."""
        finest = unfold(self.heads[0](maps[0]), self.step)
        known = [finest, *(head(own) for head, own in zip(self.heads[1:], maps, strict=False))]
        # of odd sizes the keeper's maps have a voxel more, and small images are padded by either in its own way
        both = [_common(one, target) for one, target in zip(known, targets, strict=True)]
        return [one for one, _ in both], [target for _, target in both]


class SpaceToDepthNet(KeepsFrozen):
    """Keeper and image head in training, with a frozen teacher where there is one to learn from.

    Args:
        keeper: learns.
        decoder: makes its image, learns.
        teacher: gives its maps of the target; never trained, always in eval mode. None: the image is all there is.
        discriminator: judges the image, or None.

    Raises:
        ValueError: keeper and teacher have other strides.
    """

    frozen: ClassVar[tuple[str, ...]] = ("teacher",)

    def __init__(
        self,
        keeper: SpaceToDepthKeeper,
        decoder: DepthToSpaceHead,
        teacher: Teacher | None = None,
        discriminator: PatchDiscriminator | None = None,
    ) -> None:
        super().__init__()
        if teacher is not None and teacher.steps[1:] != keeper.steps[:-1]:
            raise ValueError(f"keeper and teacher differ: strides {keeper.steps} and {teacher.steps}")
        self.keeper, self.decoder = keeper, decoder
        self.heads = None if teacher is None else FeatureHeads(keeper, teacher.channels)
        self.teacher = teacher
        self.discriminator = discriminator
        self.freeze()

    def forward(self, source: Tensor, target: Tensor | None = None) -> Tensor | DistillationOutput:
        """The image ``(B, 1, *S)`` of a source; with the target, everything the losses need."""
        maps = self.keeper.features(source)
        image: Tensor = self.decoder(maps, source.shape[2:])
        if target is None:
            return image
        targets: list[Tensor] = []
        known: list[Tensor] = []
        if self.teacher is not None and self.heads is not None:
            with torch.no_grad():
                targets = self.teacher.encode(target)
            known, targets = self.heads(maps, targets)
        return labelled(judged(image, target, known, targets, self.discriminator), self.teacher)


def _common(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps, cut to the voxels they share."""
    size = [min(pair) for pair in zip(one.shape[2:], other.shape[2:], strict=True)]
    return crop(one, size), crop(other, size)
