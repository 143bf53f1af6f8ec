"""A fusion module of matrix products alone, made for graphics cards (ours).

Nothing is normalised, pooled or convolved: at full resolution each of those takes up to a tenth of a training step of
plain nnU-Net (``benchmarks/gpu_costs.py``). Each stage listens to one guide, that of its own resolution, which the
keeper's decoder has told all of the coarser ones. A guide of half the stage's resolution becomes full by one matrix
product: its voxel gives the eight (in 2D four) voxels that it covers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import Strides, crop, initialise_kaiming, pointwise, resize
from nnunet_uhf.networks.folding import spread, unfold
from nnunet_uhf.networks.guided.fusion import check_options

MIN_WIDTH = 8
"""Tensor cores need multiples of 8."""


class PointwiseFusion(nn.Module):
    """Add guidance to one skip map: ``out = e + E relu(G g + S e)``, of ``max(8, C // reduction)`` channels.

    At the finest stage of a guide of half resolution it is ``out = e + unfold(E g)``.

    Args:
        guide_channels: channels of the guides, finest first.
        channels: C, channels of the skip.
        dim: 2 or 3.
        strides: of the guides, relative to the image; None where the finest has full resolution.
        stage: of the skip, 0 is the finest.
        init: ``identity`` starts with E = 0, so that the output is the skip and training decides; ``reference`` starts
            with a random E.
        reduction: by how much narrower than the stage the fusion works.
    """

    def __init__(
        self,
        guide_channels: Sequence[int],
        channels: int,
        *,
        dim: int,
        strides: Strides | None = None,
        stage: int = 0,
        init: str = "identity",
        reduction: int = 4,
    ) -> None:
        super().__init__()
        check_options(init, "sigmoid")
        finest = (1,) * dim if strides is None else tuple(strides[0])
        coarse = max(finest) > 1
        self.level = min(max(0, stage - coarse), len(guide_channels) - 1)
        heard = guide_channels[self.level]
        self.step = finest if coarse and stage == 0 else None
        if self.step is not None:
            self.widen = pointwise(dim, heard, channels * math.prod(self.step))
        else:
            width = max(MIN_WIDTH, math.ceil(channels / reduction / MIN_WIDTH) * MIN_WIDTH)
            self.combine_guides = pointwise(dim, heard, width, bias=True)
            self.combine_skip = pointwise(dim, channels, width)
            self.widen = pointwise(dim, width, channels)
        initialise_kaiming(self)
        if init == "identity":
            nn.init.zeros_(self.widen.weight)

    def forward(self, skip: Tensor, guides: Sequence[Tensor]) -> Tensor:
        """Fuse guides ``(B, c_l, *S_l)`` into a skip ``(B, C, *S)``; the output has the skip's shape."""
        guide, size = guides[self.level], skip.shape[2:]
        if self.step is not None:
            return self._unfolded(skip, guide, self.step)
        mixed = torch.relu_(self.combine_skip(skip, onto=self.combine_guides(resize(guide, size))))
        fused: Tensor = self.widen(mixed, onto=skip)
        return fused

    def _unfolded(self, skip: Tensor, guide: Tensor, step: Sequence[int]) -> Tensor:
        """The skip plus the widened guide, whose voxels cover ``step`` of the skip's."""
        size = skip.shape[2:]
        added = self.widen(resize(guide, [-(-n // k) for n, k in zip(size, step, strict=True)]))
        if any(n % k for n, k in zip(size, step, strict=True)):
            return skip + crop(unfold(added, step), size)
        # added where it lies: the unfolded map is never stored
        blocks = [part for n, k in zip(size, step, strict=True) for part in (n // k, k)]
        return (skip.reshape(*skip.shape[:2], *blocks) + spread(added, step)).reshape(skip.shape)
