"""The judge of patches of 70 pixels (PatchGAN of pix2pix and CycleGAN, as in PTA)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nnunet_uhf.networks.pta.generators import initialise_normal


class PatchGAN(nn.Module):
    """``(B, C, H, W) -> (B, 1, H', W')`` scores of patches of 70 pixels: 2,762,689 parameters of one channel.

    Convolutions of 4x4 with 64, 128, 256 (stride 2), 512 and 1 (stride 1) channels, LeakyReLU 0.2, instance norm
    without affine parameters from the second to the fourth.
    """

    SMALLEST = 32
    """Pixels of a side, so that no normalised map is a single voxel."""

    def __init__(self, *, in_channels: int = 1, judge_features: int = 64) -> None:
        super().__init__()
        self.in_channels, self.judge_features = in_channels, judge_features
        features = judge_features
        layers: list[nn.Module] = [nn.Conv2d(in_channels, features, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for inputs, outputs, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            layers += [
                nn.Conv2d(inputs * features, outputs * features, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(outputs * features),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * features, 1, 4, padding=1))
        initialise_normal(self)

    def forward(self, image: Tensor) -> Tensor:
        """Scores, trained towards 1 for real and 0 for made patches."""
        return self.layers(image)

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {"in_channels": self.in_channels, "judge_features": self.judge_features}
