"""Blocks of a slice turned and taken out, for local structure correction (PTA; sizes of the authors' code)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCKS_A_SIDE = 24
SMALLEST_BLOCK = 4
MASKED = 0.2
"""Share of blocks that are taken out (the authors' code)."""


def block_side(height: int, width: int) -> int:
    """Pixels of a block's side: a 24th of the shorter side, at least 4 (5 at the original's 120 pixels)."""
    return max(SMALLEST_BLOCK, min(height, width) // BLOCKS_A_SIDE)


def corrupted(
    image: Tensor,
    *,
    masked: float = MASKED,
    turned: bool = True,
    floor: float = -1.0,
    side: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """A copy with blocks turned by multiples of 90 degrees, drawn evenly, and some filled with the range's lower end.

    What is left over at the far borders stays as it is.

    Args:
        image: ``(B, 1, H, W)``.
        masked: share of blocks that are filled.
        turned: whether blocks are turned.
        floor: what they are filled with; the original takes the smallest value of the batch.
        side: of a block; by default :func:`block_side`.
        generator: of the draws, on the image's device; None for torch's own.

    Returns:
        The image, and which of its pixels were filled ``(B, 1, H, W)``.
    """
    batch, _, height, width = image.shape
    side = block_side(height, width) if side is None else side
    rows, columns = height // side, width // side
    if not rows or not columns:
        return image.clone(), torch.zeros_like(image, dtype=torch.bool)
    inner = image[..., : rows * side, : columns * side]
    blocks = inner.reshape(batch, rows, side, columns, side).permute(0, 1, 3, 2, 4)
    draw: dict[str, Any] = {"generator": generator, "device": image.device}
    if turned:
        quarters = torch.randint(4, (batch, rows, columns, 1, 1), **draw)
        for count in (1, 2, 3):
            blocks = torch.where(quarters == count, torch.rot90(blocks, count, (3, 4)), blocks)
    filled = torch.rand((batch, rows, columns, 1, 1), **draw) < masked
    blocks = torch.where(filled, torch.full_like(blocks, floor), blocks)

    def joined(tiles: Tensor) -> Tensor:
        return tiles.permute(0, 1, 3, 2, 4).reshape(batch, 1, rows * side, columns * side)

    result = image.clone()
    result[..., : rows * side, : columns * side] = joined(blocks)
    marks = joined(filled.expand(-1, -1, -1, side, side).float())
    return result, F.pad(marks, (0, width - columns * side, 0, height - rows * side)) > 0
