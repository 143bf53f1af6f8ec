"""Adaptive fusion module: what a guide has to say to one stage of the segmentation encoder (arXiv 2402.08409).

Exact rewrites, same numbers with less work: a guide is projected on the smaller of the two grids; the convolution
over the concatenation of guides and skip is two convolutions; after instance normalisation without affine
parameters the mean of the negative part is minus the mean of the positive part, so one pooling serves both; and
v+ ca+ + v- ca- is v ca- + v+ (ca+ - ca-), so that nothing but v and v+ is kept for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import convolution, initialise_kaiming, initialise_rows, pointwise, resize
from nnunet_uhf.networks.card import plain_norm

INITS = ("identity", "reference")
GATES = ("sigmoid", "relu")


class ChannelAttention(nn.Module):
    """gate(FC_C(ReLU(FC_{C/2}(m)))) of a pooled feature ``(B, C)``; the paper's gate is ReLU, ours a sigmoid."""

    def __init__(self, channels: int, gate: str) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        self.gate: nn.Module = nn.Sigmoid() if gate == "sigmoid" else nn.ReLU()
        initialise_kaiming(self)

    def forward(self, pooled: Tensor) -> Tensor:
        """Weight per channel, ``(B, C)``, in (0, 1) or [0, inf)."""
        weight: Tensor = self.gate(self.excite(torch.relu(self.squeeze(pooled))))
        return weight


def check_options(init: str, gate: str) -> None:
    """ValueError unless both are known."""
    if init not in INITS or gate not in GATES:
        raise ValueError(f"init is one of {INITS} and gate one of {GATES}, got {init!r} and {gate!r}")


def weigh_signs(
    v: Tensor, positive: ChannelAttention, negative: ChannelAttention, scale: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """``v+``, ``w-`` and ``w+ - w-``, with which ``v+ w+ + v- w-`` is ``v w- + v+ (w+ - w-)``; w = scale * ca.

    ``v`` is instance-normalised ``(B, C, *S)``, ``scale`` one factor per channel; the weights are ``(B, C, 1, ...)``.
    """
    rectified = torch.relu(v)
    pooled = rectified.flatten(2).mean(dim=2)
    plus, minus = positive(pooled), negative(-pooled)
    if scale is not None:
        plus, minus = plus * scale, minus * scale
    shape = (*plus.shape, *[1] * (v.ndim - 2))
    # back to the map's type: under autocast the float32 scale would double the memory of every stage
    plus, minus = plus.to(v.dtype).reshape(shape), minus.to(v.dtype).reshape(shape)
    return rectified, minus, plus - minus


class AdaptiveFusion(nn.Module):
    """Add guidance to one skip map: ``out = e + scale * (v+ ca+ + v- ca-)``.

    Args:
        guide_channels: channels of the guides, finest first.
        channels: C, channels of the skip.
        dim: 2 or 3.
        init: ``identity`` starts with scale = 0 per channel, so that the output is the skip and training decides
            (ours); ``reference`` has no scale (paper), where the added term starts at 0.53 to 0.78 of the skip.
        gate: channel gate, ``relu`` (paper; 19 to 27 % of the channels start dead) or ``sigmoid`` (ours).
        reduction: each guide is projected to ``max(1, C // reduction)`` channels, 5 in the paper.
    """

    def __init__(
        self,
        guide_channels: Sequence[int],
        channels: int,
        *,
        dim: int,
        init: str = "identity",
        gate: str = "sigmoid",
        reduction: int = 5,
    ) -> None:
        super().__init__()
        check_options(init, gate)
        width = max(1, channels // reduction)
        self.projections = nn.ModuleList(pointwise(dim, c, width, bias=True) for c in guide_channels)
        self.aggregate = nn.Sequential(
            convolution(dim, width * len(guide_channels), channels, 3),
            plain_norm(dim, channels),
            nn.ReLU(),
            convolution(dim, channels, channels, 3, bias=True),
        )
        self.combine_guides = convolution(dim, channels, channels, 3)
        self.combine_skip = convolution(dim, channels, channels, 3)
        self.norm = plain_norm(dim, channels)
        self.positive = ChannelAttention(channels, gate)
        self.negative = ChannelAttention(channels, gate)
        self.scale = nn.Parameter(torch.zeros(channels)) if init == "identity" else None
        initialise_kaiming(self.projections)
        initialise_kaiming(self.aggregate)
        for half in (self.combine_guides, self.combine_skip):  # one convolution over both in the paper
            initialise_rows(half.weight, 2 * channels * 3**dim)

    def forward(self, skip: Tensor, guides: Sequence[Tensor]) -> Tensor:
        """Fuse guides ``(B, c_l, *S_l)`` into a skip ``(B, C, *S)``; the output has the skip's shape."""
        u = self.aggregate(self._project(guides, skip.shape[2:]))
        v = self.norm(self.combine_guides(u) + self.combine_skip(skip))
        positive, minus, extra = weigh_signs(v, self.positive, self.negative, self.scale)
        return torch.addcmul(torch.addcmul(skip, v, minus), positive, extra)

    def _project(self, guides: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """All guides at the stage's size, side by side: ``(B, width * L, *size)``."""
        projected = []
        for guide, projection in zip(guides, self.projections, strict=True):
            if math.prod(guide.shape[2:]) > math.prod(size):
                projected.append(projection(resize(guide, size)))
            else:
                projected.append(resize(projection(guide), size))
        return torch.cat(projected, dim=1)
