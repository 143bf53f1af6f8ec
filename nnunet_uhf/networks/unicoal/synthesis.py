"""The synthesis network of Uni-COAL: from positions, a style and the maps of the encoder to one slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunet_uhf.networks.contract import Decoder
from nnunet_uhf.networks.unicoal.layers import EqualLinear, FilteredActivation, modulated_conv
from nnunet_uhf.networks.unicoal.mapping import mapping_of
from nnunet_uhf.networks.unicoal.presets import SynthesisArguments
from nnunet_uhf.networks.unicoal.schedule import Layer, LayerPlan, kaiser_filter, plan_of

OUTPUT_GAIN = 0.25


class FourierInput(nn.Module):
    """Waves over the plane: the coarsest map, known at any position.

    Args:
        signal: the layer's, whose pass band the waves fill.
        latent: length of w, which turns and shifts the waves; at the start it leaves them alone.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, signal: Layer, *, latent: int) -> None:
        super().__init__()
        count = signal.channels
        radius = signal.cutoff * torch.rand(count).sqrt()  # uniform over the disc
        angle = 2 * math.pi * torch.rand(count)
        self.register_buffer("frequencies", torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1))
        self.register_buffer("phases", torch.rand(count) - 0.5)
        self.turn = EqualLinear(latent, 4, bias=(1.0, 0.0, 0.0, 0.0), zero=True)
        self.weight = nn.Parameter(torch.randn(count, count))
        self.rate, self.cutoff = signal.rate, signal.cutoff

    def forward(self, latent: Tensor, place: Tensor, size: Sequence[int]) -> Tensor:
        """Latent vectors `(B, latent)` and where the middle of the map lies, `(B, 2)` in images -> `(B, C, *size)`."""
        turn = self.turn(latent)
        turn = turn / turn[:, :2].norm(dim=1, keepdim=True)
        cosine, sine = turn[:, 0], turn[:, 1]
        rotation = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
        frequencies = self.frequencies @ rotation  # (B, C, 2)
        shift = torch.einsum("bcd,bd->bc", frequencies, place - turn[:, 2:])
        rows, columns = (
            (torch.arange(length, device=place.device, dtype=place.dtype) + 0.5 - length / 2) / self.rate
            for length in size
        )
        phase = frequencies[:, :, 0, None, None] * rows[:, None] + frequencies[:, :, 1, None, None] * columns
        waves = torch.sin(2 * math.pi * (phase + (shift + self.phases)[:, :, None, None]))
        length = self.frequencies.norm(dim=1)
        amplitude = (1 - (length - self.cutoff) / (self.rate / 2 - self.cutoff)).clamp(0, 1)
        mixed = self.weight * amplitude / math.sqrt(len(self.weight))
        return torch.einsum("oc,bchw->bohw", mixed, waves)


class SynthesisLayer(nn.Module):
    """Modulated 3×3 convolution and a filtered leaky ReLU, to the rate and cut-off of the next signal."""

    def __init__(self, before: Layer, behind: Layer, *, style: int) -> None:
        super().__init__()
        self.style = EqualLinear(style, before.channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(behind.channels, before.channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(behind.channels))
        rate = 2 * max(before.rate, behind.rate)
        up, down = rate // before.rate, rate // behind.rate
        self.activation = FilteredActivation(
            kaiser_filter(before, rate=rate, factor=up),
            kaiser_filter(behind, rate=rate, factor=down),
            up_factor=up,
            down_factor=down,
        )

    def forward(self, x: Tensor, style: Tensor, size: Sequence[int]) -> Tensor:
        """`(B, C, H, W)` and `(B, style)` -> `(B, C', *size)`."""
        y = modulated_conv(x, self.weight, self.style(style), padding=2)
        y = y + self.bias.to(y.dtype)[:, None, None]
        return self.activation(y, size)


class ToImage(nn.Module):
    """Modulated 1×1 convolution to one channel, not demodulated, linear."""

    def __init__(self, channels: int, *, style: int) -> None:
        super().__init__()
        self.style = EqualLinear(style, channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1))
        self.gain = 1 / math.sqrt(channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, 1, H, W)`."""
        y = modulated_conv(x, self.weight, self.style(style) * self.gain, padding=0, demodulate=False)
        return (y.float() + self.bias[:, None, None]) * OUTPUT_GAIN


class Synthesis(Decoder):
    """Maps of the encoder, conditions and noise -> a slice: co-modulated by noise, conditions and the image.

    Args:
        **arguments: those of :class:`nnunet_uhf.networks.unicoal.presets.SynthesisArguments`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = asked = SynthesisArguments(**arguments)
        self.plan: LayerPlan = plan_of(asked)
        signals = self.plan.layers[:-1]
        before = [signals[0], *signals[:-1]]
        style = asked.latent + asked.image_features
        self.noise = asked.embedding
        self.mapping = mapping_of(asked, noise=self.noise)
        self.fourier = FourierInput(signals[0], latent=asked.latent)
        self.layers = nn.ModuleList(
            SynthesisLayer(one, other, style=style) for one, other in zip(before, signals, strict=True)
        )
        self.to_image = ToImage(signals[-1].channels, style=style)
        self.recompute = False

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network."""
        return self.arguments.as_json()

    def forward(
        self, maps: Sequence[Tensor], size: Sequence[int], condition: Tensor, noise: Tensor, place: Tensor
    ) -> Tensor:
        """One slice.

        Args:
            maps: of the encoder, finest first, e the last.
            size: of the slice, `(H, W)`.
            condition: `(B, code + numbers)`.
            noise: z, `(B, noise)`.
            place: of the middle of the slice, `(B, 2)`, in nominal image sizes.

        Returns:
            `(B, 1, H, W)`.
        """
        *maps_, vector = maps
        with torch.autocast(vector.device.type, enabled=False):
            latent = self.mapping(condition, noise)
            style = torch.cat([latent, vector.float().flatten(1)], dim=1)
            lowest = maps_[-1]
            x = self.fourier(latent, place.float(), lowest.shape[2:])
        x = x.to(lowest.dtype) + lowest
        skips = dict(zip(sorted(self.plan.skips, reverse=True), maps_[:-1], strict=True))
        for index, layer in enumerate(self.layers):
            inner = index < len(self.layers) - 1
            margin = self.plan.margin if inner else 0
            wanted = tuple(self.plan.map_size(self.plan.layers[index].rate, length, margin=margin) for length in size)
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(layer, x, style, wanted, use_reentrant=False)
            else:
                x = layer(x, style, wanted)
            if index in skips:
                x = x + skips[index]
        image: Tensor = self.to_image(x, style)
        return image
