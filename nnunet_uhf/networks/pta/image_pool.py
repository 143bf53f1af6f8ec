"""Earlier images for a judge, so that it does not chase the last ones alone (Shrivastava 2017, as in CycleGAN)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SIZE = 50
PROBABILITY = 0.5


class Drawn(NamedTuple):
    """Earlier images for a batch ``(B, C, H, W)`` and which of its images they replace ``(B, 1, 1, 1)``."""

    images: Tensor
    replaces: Tensor

    def mixed(self, made: Tensor) -> Tensor:
        """A batch with some images replaced by earlier ones; no gradient."""
        return torch.where(self.replaces, self.images.to(made.dtype), made.detach())


class ImagePool:
    """Up to `size` images; once it is full, an image of a batch is exchanged for an earlier one with probability 0.5.

    It is no part of the network: after a resumed training it fills anew.
    """

    def __init__(self, size: int = SIZE, probability: float = PROBABILITY) -> None:
        self.size, self.probability = size, probability
        self.images: list[Tensor] = []
        self._places: list[int | None] = []

    def draw(self, batch: int, shape: tuple[int, ...], device: torch.device) -> Drawn:
        """What replaces images of the coming batch, whose images have a ``shape`` (C, H, W)."""
        self._places = [
            int(torch.randint(self.size, ())) if len(self.images) >= self.size and torch.rand(()) < self.probability
            else None
            for _ in range(batch)
        ]  # fmt: skip
        images = torch.zeros((batch, *shape), device=device)
        for index, place in enumerate(self._places):
            if place is not None:
                images[index] = self.images[place].to(device)
        replaces = torch.tensor([place is not None for place in self._places], device=device).view(-1, 1, 1, 1)
        return Drawn(images, replaces)

    def store(self, made: Tensor) -> None:
        """Take the images of the batch that was drawn for: into the places of those they were exchanged for."""
        for image, place in zip(made.detach(), self._places, strict=True):
            if place is not None:
                self.images[place] = image.clone()
            elif len(self.images) < self.size:
                self.images.append(image.clone())
