"""The networks a keeper file may hold, by the name in its header (ours).

What a header may say of each is in :mod:`nnunet_uhf.keeper_networks`, under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from nnunet_uhf.checks import DIM, Check, is_int, is_list, is_number
from nnunet_uhf.networks.blocks import LEVELS
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.teacher import TeacherDecoder
from nnunet_uhf.networks.distillation.training import EnhancementNet
from nnunet_uhf.networks.siqt.blocks import ImageHead
from nnunet_uhf.networks.siqt.unet import AnisotropicKeeper, AnisotropicUNet

Keeper = KnowledgeKeeper | AnisotropicKeeper
"""What can guide: an image in, five maps out, finest first, with ``dim``, ``channels``, ``steps`` and ``strides``."""
EnhancingNet = EnhancementNet | AnisotropicUNet
"""What makes an image of an image; its ``keeper`` has ``features()``, its ``decoder`` makes the image of them."""


@dataclass(frozen=True, kw_only=True)
class NetworkKind:
    """The classes of one network.

    Attributes:
        keeper: gives the guides; built with ``architecture`` of header or plans.
        decoder: makes the image of the maps; built with ``decoder_architecture``.
        enhancer: both as one network, of both architectures; state dict: ``keeper.`` and ``decoder.``, as in a file.
        trained_decoder: where the network of the trainer has the decoder; ``keeper.`` is where it is in the enhancer.
    """

    keeper: Callable[..., Keeper]
    decoder: Callable[..., nn.Module]
    enhancer: Callable[[Mapping[str, Any], Mapping[str, Any]], EnhancingNet]
    trained_decoder: str


def _distilled(architecture: Mapping[str, Any], decoder: Mapping[str, Any]) -> EnhancementNet:
    return EnhancementNet(KnowledgeKeeper(**architecture), TeacherDecoder(**decoder))


def _anisotropic(architecture: Mapping[str, Any], decoder: Mapping[str, Any]) -> AnisotropicUNet:
    network = AnisotropicUNet(**architecture)
    network.decoder = ImageHead(**decoder)
    return network


DEFAULT_KIND = "knowledge_keeper"
KINDS: dict[str, NetworkKind] = {
    DEFAULT_KIND: NetworkKind(
        keeper=KnowledgeKeeper, decoder=TeacherDecoder, enhancer=_distilled, trained_decoder="teacher.decoder."
    ),
    "anisotropic_unet": NetworkKind(
        keeper=AnisotropicKeeper, decoder=ImageHead, enhancer=_anisotropic, trained_decoder="decoder."
    ),
}


def guide_of(entry: Mapping[str, Any]) -> Keeper:
    """The keeper, with random weights, of a block's keeper entry: ``{"architecture": .., "network": name or absent}``.

    Raises:
        ValueError: an architecture that cannot guide.
    """
    return KINDS[entry.get("network", DEFAULT_KIND)].keeper(**entry["architecture"])


#: What a header or block that names no network means: the first formats knew no other.
DEFAULT_NETWORK = "knowledge_keeper"


# Bounds of what a file may ask to be built; the reference keeper has 16 features and kernels of 7.
MAX_BASE_FEATURES = 64


MAX_KERNEL_SIZE = 9


MAX_MASKS = 64


RATIOS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """What is known of a network by its name.

    ``arguments`` and ``decoder_arguments``: what ``config()`` of the keeper and of its decoder give. ``problem``: how
    arguments disagree with each other, or None. ``channels``: of its five maps, finest first. ``no_guide``: why a
    keeper of these arguments cannot guide a segmentation, or None.
    """

    arguments: Mapping[str, Check]
    decoder_arguments: Mapping[str, Check]
    problem: Callable[[Mapping[str, Any]], str | None]
    channels: Callable[[Mapping[str, Any]], tuple[int, ...]]
    no_guide: Callable[[Mapping[str, Any]], str | None]


def _is_strides(value: object) -> bool:
    def is_step(step: object) -> bool:
        return is_list(step, lambda item: is_int(item, 1, 2), 2, 3)

    return is_list(value, is_step, LEVELS, LEVELS)


def _strides_problem(arguments: Mapping[str, Any]) -> str | None:
    steps, dim = arguments["strides"], arguments["dim"]
    if any(len(step) != dim for step in steps) or any(k != 1 for k in steps[0]):
        return f"argument 'strides' must have {dim} steps a level, ones at the first"
    return None


def _slices_problem(arguments: Mapping[str, Any]) -> str | None:
    axis, dim = arguments["slice_axis"], arguments["dim"]
    if (axis is None and arguments["ratio"] != 1) or (axis is not None and axis >= dim):
        return f"argument 'slice_axis' must be an axis below {dim}, or null where the ratio is 1"
    return None


def _doubled(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(arguments["base_features"] * 2**level for level in range(LEVELS))


def _doubled_in_3d(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    return _doubled(arguments) if arguments["dim"] == 3 else (arguments["base_features"],) * LEVELS


def _not_one_grid(arguments: Mapping[str, Any]) -> str | None:
    if arguments["ratio"] != 1:
        return f"it makes {arguments['ratio']} slices of one, so its maps do not lie on the grid of its input"
    if arguments["masks"] is not None:
        return f"it is an ensemble of {arguments['masks']} masks, which would have to be run one by one"
    return None


# one source image in, so that one guide channel can be named
_ONE_CHANNEL: Check = (lambda value: is_int(value, 1, 1), "1")


_BASE_FEATURES: Check = (
    lambda value: is_int(value, 4, MAX_BASE_FEATURES) and value % 4 == 0,
    f"a multiple of 4 up to {MAX_BASE_FEATURES}",
)


NETWORKS: dict[str, NetworkFacts] = {
    "knowledge_keeper": NetworkFacts(
        arguments={
            "dim": DIM,
            "in_channels": _ONE_CHANNEL,
            "base_features": _BASE_FEATURES,
            "strides": (_is_strides, f"{LEVELS} levels of steps of 1 or 2"),
            "kernel_size": (
                lambda value: is_int(value, 1, MAX_KERNEL_SIZE) and value % 2 == 1,
                f"an odd number up to {MAX_KERNEL_SIZE}",
            ),
            "position_branch": (lambda value: isinstance(value, bool), "true or false"),
        },
        decoder_arguments={"dim": DIM, "base_features": _BASE_FEATURES},
        problem=_strides_problem,
        channels=_doubled_in_3d,
        no_guide=lambda _: None,
    ),
    "anisotropic_unet": NetworkFacts(
        arguments={
            "dim": DIM,
            "in_channels": _ONE_CHANNEL,
            "base_features": _BASE_FEATURES,
            "ratio": (lambda value: is_int(value, 1, 8) and value in RATIOS, f"one of {', '.join(map(str, RATIOS))}"),
            "slice_axis": (lambda value: value is None or is_int(value, 0, 2), "an axis 0, 1, 2 or null"),
            "masks": (lambda value: value is None or is_int(value, 2, MAX_MASKS), f"2 to {MAX_MASKS} or null"),
            "mask_scale": (lambda value: is_number(value, 1, 6), "a number from 1 to 6"),
        },
        decoder_arguments={"dim": DIM, "base_features": _BASE_FEATURES},
        problem=_slices_problem,
        channels=_doubled,
        no_guide=_not_one_grid,
    ),
}


def why_no_guide(network: str, architecture: Mapping[str, Any]) -> str | None:
    """Why a keeper cannot guide a segmentation, as the end of a sentence about it; None when it can."""
    return NETWORKS[network].no_guide(architecture)


METHODS = {
    "knowledge_keeper": "arXiv:2402.08409",
    "anisotropic_unet": "Lin et al., Medical Image Analysis 87, 102807 (2023)",
}
