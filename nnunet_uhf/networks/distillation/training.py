"""Keeper, frozen teacher and discriminator in one module, as the keeper's training sees them (arXiv 2402.08409)."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from nnunet_uhf.networks.constant import with_constant_weights
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.segmentation_teacher import SegmentationTeacher
from nnunet_uhf.networks.distillation.teacher import Teacher
from nnunet_uhf.networks.frozen import KeepsFrozen


class DistillationOutput(NamedTuple):
    """One training pass: decoded ``image`` (B, 1, *S), the keeper's ``guides``, the teacher's ``targets``, and scores.

    ``real_score`` and ``fake_score`` train the discriminator only, ``generator_score`` the keeper only; all three
    are ``None`` without a discriminator. ``logits`` (B, classes, *S) are those that a teacher which segments reads from
    the guides, ``target_logits`` its own, ``None`` of other teachers; of regions (B, 2, R, *S), outside and inside.
    """

    image: Tensor
    guides: list[Tensor]
    targets: list[Tensor]
    real_score: Tensor | None
    fake_score: Tensor | None
    generator_score: Tensor | None
    logits: Tensor | None = None
    target_logits: Tensor | None = None


class DistillationNet(KeepsFrozen):
    """Keeper in training. The teacher is frozen: no gradient, always in eval mode.

    One forward pass yields everything both players, keeper and discriminator, need for their losses (simultaneous
    instead of alternating updates: ours).
    """

    frozen: ClassVar[tuple[str, ...]] = ("teacher",)

    def __init__(
        self, keeper: KnowledgeKeeper, teacher: Teacher, discriminator: PatchDiscriminator | None = None
    ) -> None:
        super().__init__()
        if keeper.channels != teacher.channels or keeper.steps != teacher.steps:
            raise ValueError(
                f"keeper and teacher differ: channels {keeper.channels} and {teacher.channels}, "
                f"strides {keeper.steps} and {teacher.steps}"
            )
        self.keeper = keeper
        self.teacher = teacher
        self.discriminator = discriminator
        self.freeze()

    def forward(self, source: Tensor, target: Tensor | None = None) -> Tensor | DistillationOutput:
        """Decoded image ``(B, 1, *S)`` of a source; with the target, everything the losses need."""
        guides = self.keeper.features(source)
        image = self.teacher.decode(guides, source.shape[2:])
        if target is None:
            return image
        with torch.no_grad():
            targets = self.teacher.encode(target)
        return labelled(judged(image, target, guides, targets, self.discriminator), self.teacher)


def judged(
    image: Tensor,
    target: Tensor,
    guides: list[Tensor],
    targets: list[Tensor],
    discriminator: PatchDiscriminator | None,
) -> DistillationOutput:
    """What a pass has made, with the scores of a discriminator, where there is one."""
    if discriminator is None:
        return DistillationOutput(image, guides, targets, None, None, None)
    return DistillationOutput(
        image,
        guides,
        targets,
        discriminator(target),
        discriminator(image.detach()),
        with_constant_weights(discriminator, image),
    )


def labelled(output: DistillationOutput, teacher: Teacher | None) -> DistillationOutput:
    """A pass with the logits of a teacher that segments, as they come of another one."""
    if not isinstance(teacher, SegmentationTeacher):
        return output
    size = output.guides[0].shape[2:]
    with torch.no_grad():
        wanted = teacher.logits(output.targets, size)
    found = [teacher.logits(output.guides, size), wanted]
    if teacher.regions:  # each is a choice of its own, between outside, whose logit is 0, and inside
        found = [torch.stack((torch.zeros_like(one), one), dim=1) for one in found]
    return output._replace(logits=found[0], target_logits=found[1])
