"""The layers of Uni-COAL: equalised ones, modulated convolutions, filtered activations (Karras et al. 2020, 2021).

Nothing here is a custom operator: filters are banded matrices, or depthwise convolutions, one axis after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2  # of the leaky ReLU below 0
GAIN = math.sqrt(2)  # keeps the variance across it
CLAMP = 256.0  # largest activation: half precision stays finite
EPSILON = 1e-8


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance."""
    return F.leaky_relu(x, SLOPE) * GAIN


def rms_normalised(x: Tensor) -> Tensor:
    """Each row of `(B, C)` over its root mean square."""
    return x * (x.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()


class EqualLinear(nn.Module):
    """Fully connected layer with an equalised learning rate: `(B, in) -> (B, out)`.

    Args:
        inputs: features.
        outputs: features.
        activate: a leaky ReLU follows.
        rate: factor of its learning rate.
        bias: value at the start.
        zero: whether the weights start at 0.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        activate: bool = False,
        rate: float = 1.0,
        bias: float | Sequence[float] = 0.0,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs) if zero else torch.randn(outputs, inputs) / rate)
        start = torch.as_tensor(bias, dtype=torch.float32, device=self.weight.device).expand(outputs)
        self.bias = nn.Parameter(start / rate)
        self.activate = activate
        self.gain = rate / math.sqrt(inputs)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in) -> (B, out)`."""
        x = F.linear(x, self.weight * self.gain, self.bias * self.rate)
        return leaky(x) if self.activate else x


class EqualConv(nn.Module):
    """Convolution in the plane with an equalised learning rate and bias: `(B, in, H, W) -> (B, out, H, W)`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True, activate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * kernel * kernel)
        self.padding = kernel // 2
        self.activate = activate

    def forward(self, x: Tensor, *, stride: int = 1, padding: int | None = None) -> Tensor:
        """With the layer's padding, which keeps the size, unless another is given."""
        pad = self.padding if padding is None else padding
        x = F.conv2d(x, self.weight * self.gain, self.bias, stride=stride, padding=pad)
        return leaky(x) if self.activate else x


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, *, padding: int, demodulate: bool = True) -> Tensor:
    """Convolution whose input channels are scaled by a style of each sample, its output back to variance 1.

    Scaling input and output is the same as scaling the weights of each sample, and needs no grouped convolution. Styles
    and demodulation are in single precision, whatever the maps are in.

    Args:
        x: `(B, in, H, W)`.
        weight: `(out, in, k, k)`.
        style: `(B, in)`.
        padding: of the convolution.
        demodulate: whether weights and styles are normalised and the output is demodulated.

    Returns:
        `(B, out, H', W')`.
    """
    weight, style = weight.float(), style.float()
    if not demodulate:
        return F.conv2d(x * style.to(x.dtype)[:, :, None, None], weight.to(x.dtype), padding=padding)
    weight = weight * weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
    # by the root of what the convolution sums over, so that half precision holds its sum; demodulation takes it back
    fan_in = weight[0].numel()
    style = style * (style.square().mean(dim=1, keepdim=True) * fan_in).rsqrt()
    energy = style.square() @ weight.square().sum(dim=(2, 3)).T
    scale = (energy + EPSILON / fan_in).rsqrt()
    y = F.conv2d(x * style.to(x.dtype)[:, :, None, None], weight.to(x.dtype), padding=padding)
    return y * scale.to(y.dtype)[:, :, None, None]


def padded(x: Tensor, low: Sequence[int], high: Sequence[int]) -> Tensor:
    """`(B, C, H, W)` with zeros before and behind both axes; negative numbers crop."""
    return F.pad(x, (low[1], high[1], low[0], high[0]))


def filtered(x: Tensor, taps: Tensor, *, stride: int = 1) -> Tensor:
    """A symmetric filter `(n,)` along both axes of `(B, C, H, W)`, then every ``stride``-th pixel; no padding."""
    channels, kernel = x.shape[1], taps.to(x.dtype)
    rows = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    columns = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    x = F.conv2d(x, rows, stride=(stride, 1), groups=channels)
    return F.conv2d(x, columns, stride=(1, stride), groups=channels)


def resampling_matrix(taps: Tensor, *, length: int, wanted: int, start: int = 0, up: int = 1, down: int = 1) -> Tensor:
    """Upsampling by zeros, a symmetric filter `(n,)` and decimation along an axis, as a matrix `(wanted, length)`.

    Pixel m of the result is the sum over i of ``taps[i * up + start - m * down]`` times pixel i. A banded matrix: for
    maps of up to some hundred pixels its product is as fast on a CPU as convolutions, or up to three times faster.

    Args:
        taps: of the filter.
        length: pixels that come in.
        wanted: pixels that go out.
        start: zeros before the first pixel; negative crops.
        up: factor of the zeros; the gain is the caller's.
        down: every so many-th pixel of the filtered signal is kept.
    """
    pixel = torch.arange(length, device=taps.device)
    index = pixel * up + start - torch.arange(wanted, device=taps.device)[:, None] * down
    return torch.where((index >= 0) & (index < len(taps)), taps[index.clamp(0, len(taps) - 1)], 0)


class FilteredActivation(nn.Module):
    """Upsampling, leaky ReLU and decimation, so that no frequency beyond the new cut-off comes back as another one.

    Args:
        up: filter of the upsampling, `(n,)`; None for none.
        down: filter of the decimation, `(n,)`; None for none.
        up_factor: of the upsampling.
        down_factor: of the decimation.
    """

    up_taps: Tensor | None
    down_taps: Tensor | None

    def __init__(
        self,
        up: NDArray[np.float64] | None,
        down: NDArray[np.float64] | None,
        *,
        up_factor: int = 1,
        down_factor: int = 1,
    ) -> None:
        super().__init__()
        # made anew with the network: no file needs to hold them
        self.register_buffer("up_taps", _taps(up), persistent=False)
        self.register_buffer("down_taps", _taps(down), persistent=False)
        self.up_factor = up_factor
        self.down_factor = down_factor
        self.taps = (1 if up is None else len(up), 1 if down is None else len(down))

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """`(B, C, H, W) -> (B, C, *size)`, centred."""
        x = self._up(x, size)
        # where a filter follows it has the gain, half of it in either axis: a pass over the largest maps less
        x = F.hardtanh(F.leaky_relu(x, SLOPE), -CLAMP / GAIN, CLAMP / GAIN)
        if self.down_taps is None:
            return x * GAIN
        taps = self.down_taps * math.sqrt(GAIN)
        rows, columns = (
            resampling_matrix(taps, length=length, wanted=wanted, down=self.down_factor).to(x.dtype)
            for length, wanted in zip(x.shape[2:], size, strict=True)
        )
        return rows @ (x @ columns.T)

    def _up(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Oversampled maps with all pixels that the decimation to ``size`` needs."""
        up, down = self.up_factor, self.down_factor
        needed = [(wanted - 1) * down + self.taps[1] for wanted in size]
        totals = [length + self.taps[0] - 1 - before * up for length, before in zip(needed, x.shape[2:], strict=True)]
        low = [(total + up) // 2 for total in totals]
        if self.up_taps is None:
            return padded(x, low, [total - first for total, first in zip(totals, low, strict=True)])
        rows, columns = (
            resampling_matrix(self.up_taps * up, length=length, wanted=wanted, start=start, up=up).to(x.dtype)
            for length, wanted, start in zip(x.shape[2:], needed, low, strict=True)
        )
        return rows @ x @ columns.T


def _taps(taps: NDArray[np.float64] | None) -> Tensor | None:
    return None if taps is None else torch.tensor(taps, dtype=torch.float32)
