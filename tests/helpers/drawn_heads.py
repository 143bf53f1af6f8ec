"""Drawn heads: slices of different subjects whose look tells where they were cut, and how they look at low field."""

from __future__ import annotations

import torch
from torch import Tensor

SIDE = 32
"""Pixels."""


def slices(places: Tensor, *, low_field: bool, generator: torch.Generator) -> Tensor:
    """A slice `(B, 1, 32, 32)` of a head of its own at each place from 0 to 1, from -1 to 1."""
    count = len(places)

    def own(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator))[:, None, None]

    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    y, x, z = y[None] + own(-0.05, 0.05), x[None] + own(-0.05, 0.05), places[:, None, None]
    outline = 0.35 + 0.55 * (1 - (2 * z - 0.8) ** 2).clamp_min(0).sqrt()  # narrow below and above
    head = (x / own(0.8, 0.9)) ** 2 + y**2 < outline**2
    fluid = ((x.abs() - 0.12) ** 2 + (y / 2) ** 2) < own(0.8, 1.2) * 0.06 * torch.exp(-(((z - 0.6) / 0.12) ** 2))
    eyes = ((x.abs() - 0.35) ** 2 + (y + 0.5) ** 2) < own(0.8, 1.2) * 0.04 * torch.exp(-(((z - 0.15) / 0.1) ** 2))
    image = torch.where(fluid | eyes, -0.2, 0.6)
    contrast, noise = (0.8, 0.2) if low_field else (1.0, 0.1)
    image = torch.where(head, contrast * image + noise * torch.randn(image.shape, generator=generator), -1.0)
    return image[:, None].clamp(-1, 1)
