"""Who can learn from a teacher: the kinds of keepers, and how each is put beside one (ours)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_uhf.networks.contract import Arguments, Keeper
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.kind import KIND as KNOWLEDGE_KEEPER
from nnunet_uhf.networks.distillation.levels import level_strides
from nnunet_uhf.networks.distillation.teacher import Teacher
from nnunet_uhf.networks.distillation.training import DistillationNet
from nnunet_uhf.networks.space_to_depth.keeper import DepthToSpaceHead, SpaceToDepthKeeper, steps_for
from nnunet_uhf.networks.space_to_depth.kind import KIND as SPACE_TO_DEPTH_UNET
from nnunet_uhf.networks.space_to_depth.training import SpaceToDepthNet

Learning = DistillationNet | SpaceToDepthNet
"""Keeper, teacher and discriminator, as the keeper's training sees them."""


@dataclass(frozen=True, kw_only=True)
class Student:
    """A kind of keeper that learns from a teacher.

    Attributes:
        network: its name in files.
        keeper: the class.
        options: its arguments that plans and teacher decide.
        of_teacher: as far as the teacher alone decides them.
        build: keeper of these arguments, teacher and discriminator in one network.
        shared: arguments that keeper and teacher must agree in.
    """

    network: str
    keeper: type[Keeper]
    options: Callable[[ConfigurationManager, Arguments], dict[str, Any]]
    of_teacher: Callable[[Arguments], dict[str, Any]]
    build: Callable[[Arguments, Teacher, PatchDiscriminator | None], Learning]
    shared: tuple[str, ...] = ()

    def differing(self, keeper: Arguments, teacher: Arguments) -> list[str]:
        """Arguments in which this keeper and this teacher do not agree, and have to."""
        differing = [name for name in self.shared if keeper[name] != teacher[name]]
        if "strides" not in self.shared and [*keeper["strides"][:-1]] != [*teacher["strides"][1:]]:
            differing.append("strides")
        return differing


def planned_strides(planned: ConfigurationManager) -> list[list[int]]:
    """Strides of teacher and reference keeper for the spacing of a configuration, one list per level."""
    dim = len(planned.patch_size)
    return [list(step) for step in level_strides(dim, spacing=list(planned.spacing)[-dim:])]


def _reference(planned: ConfigurationManager, teacher: Arguments) -> dict[str, Any]:
    return {
        "dim": len(planned.patch_size),
        "strides": planned_strides(planned),
        "convolutions": teacher["convolutions"],
    }


def folded_options(planned: ConfigurationManager) -> dict[str, Any]:
    """Arguments of a space-to-depth keeper that plans decide."""
    dim = len(planned.patch_size)
    return {"dim": dim, "strides": [list(step) for step in steps_for(dim, spacing=list(planned.spacing)[-dim:])]}


def build_folded(
    architecture: Arguments, teacher: Teacher | None = None, discriminator: PatchDiscriminator | None = None
) -> SpaceToDepthNet:
    """A space-to-depth keeper with its image head, ready to be trained."""
    head = SPACE_TO_DEPTH_UNET.decoder_of(architecture)
    return SpaceToDepthNet(SpaceToDepthKeeper(**architecture), DepthToSpaceHead(**head), teacher, discriminator)


def _folded_of_teacher(teacher: Arguments) -> dict[str, Any]:
    # the keeper goes one level deeper; its coarsest step does not matter to a header's shape
    return {"dim": teacher["dim"], "strides": [*teacher["strides"][1:], [2] * teacher["dim"]]}


STUDENTS: Mapping[str, Student] = {
    KNOWLEDGE_KEEPER.name: Student(
        network=KNOWLEDGE_KEEPER.name,
        keeper=KnowledgeKeeper,
        options=_reference,
        of_teacher=lambda teacher: {n: value for n, value in teacher.items() if n in KNOWLEDGE_KEEPER.arguments},
        build=lambda architecture, teacher, judge: DistillationNet(KnowledgeKeeper(**architecture), teacher, judge),
        shared=("dim", "base_features", "strides", "convolutions"),
    ),
    SPACE_TO_DEPTH_UNET.name: Student(
        network=SPACE_TO_DEPTH_UNET.name,
        keeper=SpaceToDepthKeeper,
        options=lambda planned, _: folded_options(planned),
        of_teacher=_folded_of_teacher,
        build=build_folded,
        shared=("dim",),
    ),
}
