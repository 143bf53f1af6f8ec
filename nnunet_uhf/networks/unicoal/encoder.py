"""The image encoder of Uni-COAL: four slices of every source in, maps for the synthesis network out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.networks.unicoal.layers import EqualConv, EqualLinear, FilteredActivation, modulated_conv
from nnunet_uhf.networks.unicoal.mapping import mapping_of
from nnunet_uhf.networks.unicoal.presets import EncoderArguments
from nnunet_uhf.networks.unicoal.schedule import Layer, LayerPlan, kaiser_filter, plan_of

OUTSIDE = -1.0  # darkest value of an image
POOLED = 4  # the vector of an image sees that many by that many averages of its last map


class EncoderLayer(nn.Module):
    """Modulated 3×3 convolution, leaky ReLU, and a decimation that is free of aliases.

    Args:
        before: the signal that comes in.
        behind: the signal that goes out.
        channels: that come in.
        latent: length of v.
        filtered: whether the leaky ReLU is oversampled and filtered, too (ours).
    """

    def __init__(self, before: Layer, behind: Layer, *, channels: int, latent: int, filtered: bool) -> None:
        super().__init__()
        self.style = EqualLinear(latent, channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(behind.channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(behind.channels))
        up = 2 if filtered else 1
        rate = before.rate * up
        factor = rate // behind.rate
        self.activation = FilteredActivation(
            kaiser_filter(before, rate=rate, factor=up) if filtered else None,
            kaiser_filter(behind, rate=rate, factor=factor) if factor > 1 else None,
            up_factor=up,
            down_factor=factor,
        )

    def forward(self, x: Tensor, latent: Tensor, size: tuple[int, int]) -> Tensor:
        """`(B, channels, H, W) -> (B, C, *size)`."""
        y = modulated_conv(x, self.weight, self.style(latent), padding=2)
        y = y + self.bias.to(y.dtype)[:, None, None]
        return self.activation(y, size)


class ImageEncoder(Keeper):
    """Slices of the sources and what is asked for -> maps, finest first, and the vector e as the last of them.

    Mirrors the synthesis network; its convolutions are modulated by the conditions, without noise. Not a guide: its
    maps are of slices and a question, not of an image alone.

    Args:
        **arguments: those of :class:`nnunet_uhf.networks.unicoal.presets.EncoderArguments`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = asked = EncoderArguments(**arguments)
        self.dim, self.in_channels = asked.dim, asked.in_channels
        self.plan: LayerPlan = plan_of(asked)
        signals = self.plan.layers[-2::-1]  # from the finest one
        before = [signals[0], *signals[:-1]]
        self.mapping = mapping_of(asked)
        self.layers = nn.ModuleList(
            EncoderLayer(
                one,
                other,
                channels=asked.in_channels if index == 0 else one.channels,
                latent=asked.latent,
                filtered=asked.filtered,
            )
            for index, (one, other) in enumerate(zip(before, signals, strict=True))
        )
        skips = sorted(asked.layers - 1 - index for index in self.plan.skips)
        self.rates = [signal.rate for signal in signals]
        self.kept = (*skips, asked.layers - 1)
        last = signals[-1].channels
        self.conv = EqualConv(last, last, 3)
        self.features_of = EqualLinear(last * POOLED**2, asked.image_features, activate=True)
        self.dropout = nn.Dropout(asked.dropout)
        self.channels = (*(signals[index].channels for index in self.kept), asked.image_features)
        self.strides = (*((self.plan.size // signals[index].rate,) * 2 for index in self.kept), (asked.size,) * 2)
        self.recompute = False
        """Whether a backward pass computes the maps of a layer again, in the place of keeping them."""

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network."""
        return self.arguments.as_json()

    def features(self, source: Tensor, condition: Tensor) -> list[Tensor]:  # type: ignore[override]  # asked a question
        """Slices `(B, in_channels, H, W)` and `(B, code + numbers)` -> maps with their margins, e `(B, C, 1, 1)` last.

        H and W are multiples of ``plan.stride``.
        """
        pixels, margin = source.shape[2:], self.plan.margin
        if any(length % self.plan.stride for length in pixels):
            raise ValueError(f"slices of {tuple(pixels)} pixels: both must be multiples of {self.plan.stride}")
        latent = self.mapping(condition)
        x = F.pad(source, (margin,) * 4, value=OUTSIDE)
        maps = []
        for index, layer in enumerate(self.layers):
            wanted = tuple(self.plan.map_size(self.rates[index], length) for length in pixels)
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(layer, x, latent, wanted, use_reentrant=False)
            else:
                x = layer(x, latent, wanted)
            if index in self.kept:
                maps.append(x)
        with torch.autocast(x.device.type, enabled=False):
            pooled = F.adaptive_avg_pool2d(self.conv(x.float()), POOLED)
            vector = self.dropout(self.features_of(pooled.flatten(1)))
        return [*maps, vector[:, :, None, None]]

    def forward(self, source: Tensor, condition: Tensor) -> list[Tensor]:
        """As :meth:`features`."""
        return self.features(source, condition)
