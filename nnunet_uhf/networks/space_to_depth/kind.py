"""The space-to-depth U-Net as a kind of network: what a file may say of one (ours)."""

from __future__ import annotations

from nnunet_uhf.checks import DIM, Check, is_int, is_list
from nnunet_uhf.networks.contract import Arguments, EnhancementNet, NetworkKind
from nnunet_uhf.networks.space_to_depth.keeper import (
    LEVELS,
    MAX_WIDTH,
    DepthToSpaceHead,
    SpaceToDepthKeeper,
    map_channels,
)


def _is_step(value: object) -> bool:
    return is_list(value, lambda item: is_int(item, 1, 2), 2, 3)


def _steps_problem(architecture: Arguments) -> str | None:
    steps, dim = architecture["strides"], architecture["dim"]
    if any(len(step) != dim for step in steps) or max(steps[0]) == 1:
        return f"argument 'strides' must have {dim} steps a level, and fold an axis at the first"
    return None


def _decoder_problem(architecture: Arguments, decoder: Arguments) -> str | None:
    differing = [name for name in ("width", "strides") if decoder[name] != architecture[name]]
    return f"architecture and decoder_architecture have different {', '.join(differing)}" if differing else None


def _enhancer(architecture: Arguments, decoder: Arguments) -> EnhancementNet:
    return EnhancementNet(SpaceToDepthKeeper(**architecture), DepthToSpaceHead(**decoder))


_STRIDES: Check = (
    lambda value: is_list(value, _is_step, LEVELS, LEVELS),
    f"{LEVELS} levels of steps of 1 or 2",
)
_WIDTH: Check = (lambda value: is_int(value, 8, MAX_WIDTH) and value % 8 == 0, f"a multiple of 8 up to {MAX_WIDTH}")

KIND = NetworkKind(
    name="space_to_depth_unet",
    keeper=SpaceToDepthKeeper,
    decoder=DepthToSpaceHead,
    enhancer=_enhancer,
    arguments={
        "dim": DIM,
        "in_channels": (lambda value: is_int(value, 1, 1), "1"),
        "width": _WIDTH,
        "strides": _STRIDES,
    },
    decoder_arguments={"dim": DIM, "width": _WIDTH, "strides": _STRIDES},
    channels=lambda architecture: map_channels(architecture["width"]),
    citation="nnunet-uhf, space-to-depth keeper; distillation after arXiv:2402.08409",
    trainers="UHFKeeperTrainerDirect",
    sizes={SpaceToDepthKeeper: frozenset({"width"})},
    problem=_steps_problem,
    decoder_problem=_decoder_problem,
)
