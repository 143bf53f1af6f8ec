"""Unconditional LSGAN discriminator of decoded images (arXiv 2402.08409)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from nnunet_uhf.networks.blocks import conv_block, convolution, extend, initialise_kaiming


class PatchDiscriminator(nn.Module):
    """Four CB(4, stride 2) with nf, 2nf, 4nf, 8nf channels, then a convolution of size 4 to one score per place.

    Args:
        dim: 2 or 3.
        in_channels: channels of the judged image, 1.
        base_features: nf; 0.70 M parameters at nf = 16 in 3D.
    """

    HALVINGS = 4

    def __init__(self, *, dim: int, in_channels: int = 1, base_features: int = 16) -> None:
        super().__init__()
        self.dim, self.in_channels, self.base_features = dim, in_channels, base_features
        widths = (in_channels, *(base_features * 2**i for i in range(self.HALVINGS)))
        self.blocks = nn.Sequential(*(conv_block(dim, a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)))
        self.score = convolution(dim, widths[-1], 1, 4, padding=1, bias=True)
        initialise_kaiming(self)

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {"dim": self.dim, "in_channels": self.in_channels, "base_features": self.base_features}

    def forward(self, image: Tensor) -> Tensor:
        """Scores of ``(B, C, *S)``, 1 for real; axes below 32 voxels are extended by repeating the last plane."""
        least = 2 * 2**self.HALVINGS  # two positions must remain after the halvings
        padded = extend(image, [max(0, least - n) for n in image.shape[2:]])
        scores: Tensor = self.score(self.blocks(padded))
        return scores
