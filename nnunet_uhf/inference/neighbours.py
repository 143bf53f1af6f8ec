"""Neighbouring slices as channels, for networks of slices that are shown some (ours)."""

from __future__ import annotations

import torch
from torch import Tensor


def with_neighbours(image: Tensor, slices: int) -> Tensor:
    """``(1, Z, Y, X) -> (slices, Z, Y, X)``: channel k is the image moved by k - slices // 2 along the first axis.

    Beyond its ends the last slice is repeated. One slice leaves the image as it is.
    """
    if slices == 1:
        return image
    places = torch.arange(image.shape[1])
    moved = [image[0, (places + step).clamp(0, image.shape[1] - 1)] for step in range(-(slices // 2), slices // 2 + 1)]
    return torch.stack(moved)
