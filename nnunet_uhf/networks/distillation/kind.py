"""The knowledge keeper as a kind of network: what a file may say of one (arXiv 2402.08409)."""

from __future__ import annotations

from functools import partial

from nnunet_uhf.checks import DIM, Check, is_int, is_list
from nnunet_uhf.networks.contract import Arguments, EnhancementNet, NetworkKind, same_width
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.levels import LEVELS, level_channels
from nnunet_uhf.networks.distillation.teacher import TeacherDecoder, UHFTeacher

# Bounds of what a file may ask to be built; the reference keeper has 16 features and kernels of 7.
MAX_BASE_FEATURES = 64
MAX_KERNEL_SIZE = 9
# what version 0.1.0 built, of teachers, too
UNSAID: Arguments = {"convolutions": 1}


def _is_strides(value: object) -> bool:
    def is_step(step: object) -> bool:
        return is_list(step, lambda item: is_int(item, 1, 2), 2, 3)

    return is_list(value, is_step, LEVELS, LEVELS)


def _strides_problem(architecture: Arguments) -> str | None:
    steps, dim = architecture["strides"], architecture["dim"]
    if any(len(step) != dim for step in steps) or any(k != 1 for k in steps[0]):
        return f"argument 'strides' must have {dim} steps a level, ones at the first"
    return None


def _enhancer(architecture: Arguments, decoder: Arguments) -> EnhancementNet:
    return EnhancementNet(KnowledgeKeeper(**{**UNSAID, **architecture}), TeacherDecoder(**{**UNSAID, **decoder}))


_CONVOLUTIONS: Check = (lambda value: is_int(value, 1, 2), "1 or 2")
_BASE_FEATURES: Check = (
    lambda value: is_int(value, 4, MAX_BASE_FEATURES) and value % 4 == 0,
    f"a multiple of 4 up to {MAX_BASE_FEATURES}",
)

KIND = NetworkKind(
    name="knowledge_keeper",
    keeper=partial(KnowledgeKeeper, **UNSAID),
    decoder=partial(TeacherDecoder, **UNSAID),
    enhancer=_enhancer,
    arguments={
        "dim": DIM,
        "in_channels": (lambda value: is_int(value, 1, 1), "1"),
        "base_features": _BASE_FEATURES,
        "strides": (_is_strides, f"{LEVELS} levels of steps of 1 or 2"),
        "kernel_size": (
            lambda value: is_int(value, 1, MAX_KERNEL_SIZE) and value % 2 == 1,
            f"an odd number up to {MAX_KERNEL_SIZE}",
        ),
        "position_branch": (lambda value: isinstance(value, bool), "true or false"),
        "convolutions": _CONVOLUTIONS,
    },
    decoder_arguments={"dim": DIM, "base_features": _BASE_FEATURES, "convolutions": _CONVOLUTIONS},
    channels=lambda architecture: level_channels(architecture["dim"], architecture["base_features"]),
    citation="arXiv:2402.08409",
    trainers="UHFKeeperTrainer",
    sizes={
        KnowledgeKeeper: frozenset({"base_features", "kernel_size", "position_branch", "convolutions"}),
        UHFTeacher: frozenset({"base_features", "noise", "noise_scale", "noise_probability", "convolutions"}),
    },
    problem=_strides_problem,
    decoder_problem=same_width,
    trained_decoder="teacher.decoder.",
    unsaid=UNSAID,
)
