"""Rates, cut-offs, channels and Kaiser filters of the layers of an alias-free generator (Karras et al. 2021).

Frequencies and rates are in cycles and samples per image of the nominal size. An image of another size is taken as a
piece of that, or more than one: the filters stay, the maps shrink and grow with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from nnunet_uhf.networks.unicoal.presets import Sizes

FIRST_CUTOFF = 2.0  # cycles per image
FIRST_STOP = 2**2.1
LAST_STOP = 2**0.3  # over the cut-off of the last layers
TAPS = 6  # per factor of resampling
CRITICAL = 2  # last layers, which keep all frequencies up to half of the rate


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The signal that leaves a layer.

    Attributes:
        rate: samples per image.
        cutoff: of its pass band, cycles per image.
        half_width: half of the transition band, cycles per image.
        channels: of its maps.
    """

    rate: int
    cutoff: float
    half_width: float
    channels: int


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """All layers of a generator.

    Attributes:
        layers: of the synthesis network, the image last: L + 1.
        size: nominal size of the image in pixels.
        margin: pixels of every map beyond the image, on each side.
    """

    layers: tuple[Layer, ...]
    size: int
    margin: int

    @property
    def stride(self) -> int:
        """Pixels of the image per pixel of the coarsest map: image sizes are multiples of it."""
        return self.size // self.layers[0].rate

    @property
    def skips(self) -> tuple[int, ...]:
        """Layers behind which the encoder's map of the same rate is added: the last of each rate but the lowest."""
        inner = range(len(self.layers) - CRITICAL)
        last = {self.layers[index].rate: index for index in inner}
        return tuple(index for rate, index in last.items() if rate != self.layers[0].rate)

    def map_size(self, rate: int, pixels: int, *, margin: int | None = None) -> int:
        """Length of a map of this rate for that many pixels of the image, the margins included."""
        return pixels * rate // self.size + 2 * (self.margin if margin is None else margin)


def layer_plan(*, size: int, layers: int, base_channels: int, max_channels: int, margin: int) -> LayerPlan:
    """The geometric progression of cut-offs from 2 cycles per image to half of its size, and what follows from it.

    Args:
        size: nominal, a power of two from 32.
        layers: before the one that makes the image, 4 or more.
        base_channels: twice the product of channels and cut-off.
        max_channels: of a layer.
        margin: of maps, pixels.
    """
    last = size / 2
    made = []
    for index in range(layers + 1):
        exponent = min(index / (layers - CRITICAL), 1.0)
        cutoff = FIRST_CUTOFF * (last / FIRST_CUTOFF) ** exponent
        stop = FIRST_STOP * (last * LAST_STOP / FIRST_STOP) ** exponent
        rate = 2 ** math.ceil(math.log2(min(2 * stop, size)))
        channels = round(min(base_channels / 2 / cutoff, max_channels)) if index < layers else 1
        half_width = max(stop, rate / 2) - cutoff
        made.append(Layer(rate=rate, cutoff=cutoff, half_width=half_width, channels=channels))
    return LayerPlan(layers=tuple(made), size=size, margin=margin)


def plan_of(sizes: Sizes) -> LayerPlan:
    """The layers of a generator of these sizes."""
    return layer_plan(
        size=sizes.size,
        layers=sizes.layers,
        base_channels=sizes.base_channels,
        max_channels=sizes.max_channels,
        margin=sizes.margin,
    )


def kaiser_filter(layer: Layer, *, rate: int, factor: int) -> NDArray[np.float64]:
    """Low-pass filter `(6 * factor,)` at a rate that is oversampled by ``factor``; symmetric, sum 1.

    The width of a Kaiser window follows from the transition band (scipy's design of it).
    """
    taps = signal.firwin(TAPS * factor, layer.cutoff, width=2 * layer.half_width, fs=rate)
    return np.asarray(taps, dtype=np.float64)
