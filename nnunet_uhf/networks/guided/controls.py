"""The networks of the controls: each a guided network with one thing changed (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import resize
from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.networks.guided.network import KeeperNet, UHFGuidedNet, build_guided_net
from nnunet_uhf.networks.guided.spec import GuidanceSpec, KeeperSpec
from nnunet_uhf.networks.kinds import KINDS, guide_of


class ZeroGuideNet(UHFGuidedNet):
    """The fusion modules listen to zeros of the sizes of the keeper's maps: what they add by themselves."""

    def guides(self, x: Tensor) -> list[Tensor]:
        """Zeros, shaped as the keeper's maps of ``(B, C, *S)``."""
        size = self.source(x).shape[2:]
        return [
            x.new_zeros(x.shape[0], channels, *(max(1, n // k) for n, k in zip(size, stride, strict=True)))
            for channels, stride in zip(self.keeper.channels, self.keeper.strides, strict=True)
        ]


class TrainableKeeperNet(UHFGuidedNet):
    """The keeper is trained with the rest of the network."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keeper.requires_grad_(requires_grad=True)

    def train(self, mode: bool = True) -> TrainableKeeperNet:
        """As ``nn.Module.train``."""
        nn.Module.train(self, mode)
        return self

    def guides(self, x: Tensor) -> list[Tensor]:
        """The keeper's maps of ``(B, C, *S)``, with gradient."""
        guides: list[Tensor] = self.keeper(self.source(x))
        return guides


class EnhancedInputNet(KeeperNet):
    """Plain backbone with one more input channel: the image that keeper and decoder, both frozen, make of the guide.

    Args:
        backbone: takes one channel more than the data has.
        keeper: gives the maps.
        image_decoder: makes the image of the maps, as in a keeper file.
        guide_channel: the input channel the keeper sees, or those of a keeper of several, in its order.
        spacing_ratio: network spacing / keeper spacing per axis.
    """

    def __init__(
        self,
        backbone: nn.Module,
        keeper: Keeper,
        image_decoder: nn.Module,
        *,
        guide_channel: int | Sequence[int] = 0,
        spacing_ratio: Sequence[float] | None = None,
    ) -> None:
        super().__init__(backbone, keeper, guide_channel=guide_channel, spacing_ratio=spacing_ratio)
        self.image_decoder = image_decoder.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> EnhancedInputNet:
        """As ``nn.Module.train``, but keeper and decoder never leave eval mode."""
        super().train(mode)
        self.image_decoder.eval()
        return self

    def enhanced(self, x: Tensor) -> Tensor:
        """The enhanced image ``(B, 1, *S)`` of ``(B, C, *S)`` in the target's normalised intensities, no gradient."""
        with torch.no_grad():
            source = self.source(x)
            image: Tensor = self.image_decoder(self.keeper.features(source), source.shape[2:])
            return resize(image, x.shape[2:]).to(x.dtype)

    def forward(self, x: Tensor) -> Any:
        """Segmentation logits of ``(B, C, *S)``."""
        return self.decoder(self.encoder(torch.cat((x, self.enhanced(x)), dim=1)))


GUIDED_NETWORKS: dict[str, type[UHFGuidedNet]] = {
    "zero": ZeroGuideNet,
    "trainable": TrainableKeeperNet,
    "unfrozen": TrainableKeeperNet,
}


def build_network(backbone: nn.Module, spec: GuidanceSpec) -> KeeperNet:
    """The guided network, control or not; keeper weights are not loaded.

    Args:
        backbone: the network nnU-Net built, for :func:`extra_input_channels` more channels.
        spec: what is put around it.

    Raises:
        ValueError: no decoder for the enhanced input.
    """
    if spec.control != ENHANCED_INPUT:
        return build_guided_net(backbone, spec, network=GUIDED_NETWORKS.get(str(spec.control), UHFGuidedNet))
    if spec.keeper.decoder is None:
        raise ValueError("the enhanced input needs a decoder")
    return EnhancedInputNet(
        backbone,
        guide_of(spec.keeper.network, spec.keeper.architecture),
        KINDS[spec.keeper.network].decoder(**spec.keeper.decoder),
        guide_channel=spec.guide_channels,
        spacing_ratio=spec.spacing_ratio,
    )


MAX_SEED = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control: ``drawn``, its keeper has random weights; ``trained``, the keeper is trained with the network."""

    description: str
    drawn: bool = False
    trained: bool = False


ENHANCED_INPUT = "enhanced_input"


CONTROLS = {
    "random": Control(description="the keeper is frozen with random weights", drawn=True),
    "zero": Control(description="the keeper's maps are replaced by zeros", drawn=True),
    "trainable": Control(description="the keeper starts from random weights and is trained", drawn=True, trained=True),
    "unfrozen": Control(description="the pretrained keeper is trained along", trained=True),
    ENHANCED_INPUT: Control(description="plain network whose extra input channel is the keeper's enhanced image"),
}


def has_drawn_keeper(control: str | None) -> bool:
    """Whether the keeper of a control has random weights, drawn from a seed."""
    return control in CONTROLS and CONTROLS[control].drawn


def extra_input_channels(control: str | None) -> int:
    """Channels that the network of a control adds to the backbone's input."""
    return int(control == ENHANCED_INPUT)


def drawn_keeper(spec: KeeperSpec, seed: int) -> Keeper:
    """The keeper with random weights: its own initialisation, drawn on the CPU.

    The global random state is not touched.

    The same version of torch draws the same weights; every checkpoint carries them, so prediction needs no redraw.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return guide_of(spec.network, spec.architecture)
