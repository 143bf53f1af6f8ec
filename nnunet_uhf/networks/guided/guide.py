"""Put a keeper beside a network of one's own, outside nnU-Net."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.networks.guided.fusion_kinds import build_fusions
from nnunet_uhf.networks.guided.network import UHFGuidedNet, stage_channels
from nnunet_uhf.networks.presets import DEFAULT_PRESET, PRESETS


def guide(
    network: nn.Module,
    keeper: Keeper,
    *,
    preset: str = DEFAULT_PRESET,
    guide_channel: int | Sequence[int] = 0,
    spacing_ratio: Sequence[float] | None = None,
) -> UHFGuidedNet:
    """Guide an encoder-decoder by a keeper: one fusion module for each skip, the keeper frozen.

    At the start the fusion modules pass the skips through, so that the guided network computes what ``network`` does
    (its trained weights are of use); not so with the preset ``paper``. ``network`` is not copied: the guided network
    trains its encoder and decoder.

    Args:
        network: with ``.encoder``, which maps ``(B, C, *S)`` to its skips ``(B, C_s, *S_s)``, finest first, and lists
            their channels in ``.encoder.output_channels``, and with ``.decoder``, which takes the list of skips. All of
            nnU-Net's networks are like that, and so is any of yours after one line.
        keeper: what :func:`~nnunet_uhf.keepers.load.load_keeper` gives; of as many dimensions as the network.
        preset: the fusion modules: ``reference``, ``paper`` (its initialisation and gate), or with less time and memory
            ``efficient`` (for graphics cards) and ``light`` (for CPUs).
        guide_channel: the input channel the keeper sees, or those of a keeper of several, in its order; normalised as
            the keeper's header says.
        spacing_ratio: spacing of the network's input / that of the keeper, per axis; the keeper then runs on a resized
            input. None where they are equal.

    Raises:
        TypeError: the network has no encoder or decoder of that kind.
        ValueError: no such preset, keeper and network differ in dimension, not one positive ratio per axis, or not as
            many guide channels as the keeper reads.

    Examples:
        A network of nnU-Net, in 3D:

        >>> import torch
        >>> from dynamic_network_architectures.architectures.unet import PlainConvUNet
        >>> from torch import nn
        >>> from nnunet_uhf import KnowledgeKeeper, guide
        >>> network = PlainConvUNet(
        ...     input_channels=1, num_classes=4, n_stages=3, features_per_stage=[4, 8, 8], strides=[1, 2, 2],
        ...     conv_op=nn.Conv3d, kernel_sizes=3, n_conv_per_stage=1, n_conv_per_stage_decoder=1,
        ... )
        >>> keeper = KnowledgeKeeper(dim=3, base_features=4)  # in earnest: load_keeper("keeper.safetensors")
        >>> guided = guide(network, keeper)
        >>> guided(torch.zeros(1, 1, 16, 16, 16)).shape
        torch.Size([1, 4, 16, 16, 16])

        One's own, in 2D:

        >>> class Encoder(nn.Module):
        ...     output_channels = (4, 8)  # of the skips: the line that guidance needs
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.fine, self.coarse = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)
        ...     def forward(self, x):
        ...         fine = self.fine(x).relu()
        ...         return [fine, self.coarse(fine).relu()]
        >>> class Decoder(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.up, self.out = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv2d(8, 2, 1)
        ...     def forward(self, skips):
        ...         return self.out(torch.cat((skips[0], self.up(skips[1])), dim=1))
        >>> class Own(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.encoder, self.decoder = Encoder(), Decoder()
        ...     def forward(self, x):
        ...         return self.decoder(self.encoder(x))
        >>> own, image = Own(), torch.rand(1, 1, 16, 16)
        >>> guided = guide(own, KnowledgeKeeper(dim=2, base_features=4), preset="efficient")
        >>> torch.allclose(guided(image), own(image), atol=1e-6)  # before training
        True
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}: choose one of {', '.join(PRESETS)}")
    channels = stage_channels(network)
    dim = _dimension(network)
    if dim != keeper.dim:
        raise ValueError(f"the keeper is {keeper.dim}D, the network {dim}D: take a keeper of {dim} dimensions")
    fusions = build_fusions(PRESETS[preset].fusion, keeper, channels)
    return UHFGuidedNet(network, keeper, fusions, guide_channel=guide_channel, spacing_ratio=spacing_ratio)


def _dimension(network: nn.Module) -> int | None:
    """Of the network's convolutions, 2 or 3."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            return layer.weight.ndim - 2
    return None
