"""Masksembles: a fixed set of channel masks makes one network an ensemble (Durasov et al., CVPR 2021)."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

MAX_SCALE = 6.0
"""Beyond it a mask keeps too few channels (the bound of Durasov et al.)."""


def check_masks(masks: int | None, scale: float) -> None:
    """ValueError for less than two masks, or a scale outside 1 .. 6; None stands for a network without masks."""
    if (masks is not None and masks < 2) or not 1.0 <= scale <= MAX_SCALE:
        raise ValueError(f"masks must be at least 2 and mask_scale within 1 .. {MAX_SCALE:g}, got {masks} and {scale}")


def make_masks(channels: int, *, masks: int, scale: float, seed: int) -> Tensor:
    """Draw the masks of one layer: ``(masks, channels)`` of zeros and ones, the same for the same arguments.

    Every mask keeps m channels and every channel is kept by some mask. As in Durasov et al. m follows from
    channels = m * scale * (1 - (1 - 1 / scale)^masks): half the channels for 16 masks of scale 2. With less than 8
    channels there may be fewer different masks than asked for (Durasov et al. refuse that); the ensemble's members
    still differ by their other layers.

    Raises:
        ValueError: less than two masks, a scale outside 1 .. 6, or channels that the masks cannot cover.
    """
    check_masks(masks, scale)
    kept = min(channels, round(channels / (scale * (1 - (1 - 1 / scale) ** masks))))
    if kept < 1 or kept * masks < channels:
        raise ValueError(f"{masks} masks of scale {scale} cannot cover {channels} channels")
    draw = random.Random(seed)
    rows: list[set[int]] = [set(draw.sample(range(channels), kept)) for _ in range(masks)]
    while missing := sorted(set(range(channels)) - set().union(*rows)):
        # give a channel that no mask keeps the place of one that several keep
        row = draw.choice(rows)
        spare = sorted(c for c in row if sum(c in other for other in rows) > 1)
        if spare:
            row.remove(draw.choice(spare))
            row.add(missing[0])
    return torch.tensor([[float(c in row) for c in range(channels)] for row in rows], device="cpu")


class Masksembles(nn.Module):
    """Multiply each sample's channels by one of the layer's masks, without rescaling (Durasov et al., 2021).

    The masks are a buffer: they are no parameters, and travel with the state dict.

    Args:
        channels: of the map.
        masks: members of the ensemble.
        scale: overlap; 1 keeps all channels in every mask, larger values make members more different.
        seed: which masks; layers of one network take different ones.
    """

    masks: Tensor

    def __init__(self, channels: int, *, masks: int, scale: float, seed: int) -> None:
        super().__init__()
        self.register_buffer("masks", make_masks(channels, masks=masks, scale=scale, seed=seed))

    def forward(self, x: Tensor, member: Tensor) -> Tensor:
        """Mask ``(B, C, *S)`` by the masks ``member`` (B,), whole numbers in 0 .. masks - 1."""
        chosen = self.masks[member].to(x.dtype)  # or autocast's half-precision maps would become float32
        return x * chosen.reshape(*chosen.shape, *[1] * (x.ndim - 2))


class MaskMaker:
    """Makes the Masksembles layers of a network one after another, each with masks of its own.

    Args:
        masks: members of the ensemble; None makes no layers.
        scale: see :class:`Masksembles`.
    """

    def __init__(self, masks: int | None, scale: float) -> None:
        self.masks, self.scale = masks, scale
        self._made = 0

    def __call__(self, channels: int) -> Masksembles | None:
        """The next layer, for maps of ``channels``; None for a network without masks."""
        if self.masks is None:
            return None
        self._made += 1
        return Masksembles(channels, masks=self.masks, scale=self.scale, seed=self._made)
