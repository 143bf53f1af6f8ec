"""The adaptive fusion module made light: the same steps as in the paper, taken in few channels (ours).

The reference spends most of guidance's cost on 3x3x3 convolutions at the full width of the finest stages. Here guides
and skip meet in a narrow space, an eighth or a fourth of the stage's channels, and only the result is widened. Two
things make it cheaper still: the projected guides are added, not concatenated; and they are added from coarse to fine,
so that one resize serves all levels below it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import convolution, initialise_kaiming, pointwise, resize
from nnunet_uhf.networks.card import plain_norm
from nnunet_uhf.networks.guided.fusion import ChannelAttention, check_options, weigh_signs

MIN_WIDTH = 4


class LightFusion(nn.Module):
    """Add guidance to one skip map: ``out = e + E (v+ ca+ + v- ca-)`` with v of ``max(4, C // reduction)`` channels.

    ``u = ReLU(norm(sum of the projected guides))``, ``v = norm(conv3(u) + conv1(e))``, and E widens to C channels.

    Args:
        guide_channels: channels of the guides, finest first.
        channels: C, channels of the skip.
        dim: 2 or 3.
        init: ``identity`` starts with E = 0, so that the output is the skip and training decides; ``reference`` starts
            with a random E.
        gate: channel gate, ``relu`` (paper) or ``sigmoid``.
        reduction: by how much narrower than the stage the fusion works.
    """

    def __init__(
        self,
        guide_channels: Sequence[int],
        channels: int,
        *,
        dim: int,
        init: str = "identity",
        gate: str = "sigmoid",
        reduction: int = 8,
    ) -> None:
        super().__init__()
        check_options(init, gate)
        width = max(MIN_WIDTH, channels // reduction)
        self.projections = nn.ModuleList(pointwise(dim, c, width) for c in guide_channels)
        self.aggregate = nn.Sequential(plain_norm(dim, width), nn.ReLU(inplace=True))
        self.combine_guides = convolution(dim, width, width, 3)
        self.combine_skip = pointwise(dim, channels, width)
        self.norm = plain_norm(dim, width)
        self.positive = ChannelAttention(width, gate)
        self.negative = ChannelAttention(width, gate)
        self.widen = pointwise(dim, width, channels)
        initialise_kaiming(self)
        if init == "identity":
            nn.init.zeros_(self.widen.weight)

    def forward(self, skip: Tensor, guides: Sequence[Tensor]) -> Tensor:
        """Fuse guides ``(B, c_l, *S_l)`` into a skip ``(B, C, *S)``; the output has the skip's shape."""
        u = self.aggregate(self._sum(guides, skip.shape[2:]))
        v = self.norm(self.combine_skip(skip, onto=self.combine_guides(u)))
        positive, minus, extra = weigh_signs(v, self.positive, self.negative)
        fused: Tensor = self.widen(torch.addcmul(v * minus, positive, extra), onto=skip)
        return fused

    def _sum(self, guides: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """All guides, projected and added at the stage's size: ``(B, width, *size)``."""
        total: Tensor | None = None
        for guide, projection in zip(reversed(guides), reversed(self.projections), strict=True):
            grid = size if math.prod(guide.shape[2:]) > math.prod(size) else guide.shape[2:]
            total = projection(resize(guide, grid), onto=None if total is None else resize(total, grid))
        if total is None:
            raise ValueError("a fusion needs at least one guide")
        return resize(total, size)
