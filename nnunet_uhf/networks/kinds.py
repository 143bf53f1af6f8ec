"""The networks a keeper file may hold, by the name in its header (ours).

What a header may say of each is in :mod:`nnunet_uhf.keeper_networks`, under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from nnunet_uhf.networks.anisotropic_blocks import ImageHead
from nnunet_uhf.networks.anisotropic_unet import AnisotropicKeeper, AnisotropicUNet
from nnunet_uhf.networks.distillation import EnhancementNet
from nnunet_uhf.networks.keeper import KnowledgeKeeper
from nnunet_uhf.networks.teacher import TeacherDecoder

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
