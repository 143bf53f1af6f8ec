"""Sizes of Uni-COAL's networks: those of the original, and smaller ones (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the sizes of generator and discriminator follow from.

    Attributes:
        size: nominal size of images in pixels, a power of two; filters and cut-offs are those of it.
        layers: of the synthesis network before the image.
        base_channels: twice the product of channels and cut-off frequency.
        max_channels: of a layer.
        margin: pixels of the maps beyond the image.
        latent: length of the latent vector w, and of v.
        image_features: length of the vector e of the image.
        embedding: length of embedded code and numbers, and of z.
    """

    size: int = 256
    layers: int = 14
    base_channels: int = 16384
    max_channels: int = 512
    margin: int = 10
    latent: int = 512
    image_features: int = 1024
    embedding: int = 64

    def as_json(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class SynthesisArguments(Sizes):
    """All that a synthesis network follows from, as plans and headers hold it.

    Attributes:
        code, numbers: of the conditions.
        dim: 2; volumes are made slice by slice.
    """

    code: int
    numbers: int
    dim: int = 2


@dataclass(frozen=True, kw_only=True)
class EncoderArguments(SynthesisArguments):
    """All that an image encoder follows from.

    Attributes:
        in_channels: four slices of every source.
        filtered: whether leaky ReLUs are filtered as in the synthesis network (ours; the original: decimation alone).
        dropout: of e, in training.
    """

    in_channels: int
    filtered: bool = False
    dropout: float = 0.5


@dataclass(frozen=True, kw_only=True)
class DiscriminatorArguments:
    """All that a discriminator follows from.

    Attributes:
        in_channels: of sources and image together.
        code, numbers: of the conditions.
        size, base_channels, max_channels, embedding: as :class:`Sizes`.
    """

    in_channels: int
    code: int
    numbers: int
    size: int
    base_channels: int
    max_channels: int
    embedding: int


REFERENCE, EFFICIENT, TINY = "reference", "efficient", "tiny"

SIZES: Mapping[str, Sizes] = {
    REFERENCE: Sizes(),
    EFFICIENT: Sizes(base_channels=8192, max_channels=256),
    TINY: Sizes(
        size=64,
        layers=8,
        base_channels=512,
        max_channels=32,
        margin=4,
        latent=64,
        image_features=64,
        embedding=16,
    ),
}
"""By the name of the preset: the original's, a quarter of its cost, and one for CPUs and tests."""


def asked_sizes(options: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of a preset with those that ``options`` sets."""
    sizes = SIZES[str(options.get("preset", REFERENCE))].as_json()
    return {name: options.get(name, value) for name, value in sizes.items()}
