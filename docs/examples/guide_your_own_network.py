"""Guide your own network.

A U-Net that knows nothing of nnU-Net, guided by a keeper: one line makes it fit, one guides it, and training is what it
was. The keeper here has random weights, and the scans are simulated low field of phantoms: the picture shows
that a guided network trains, not that guidance helps.
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from nnunet_uhf import guide, load_keeper, simulate_low_field, write_untrained_keeper
from nnunet_uhf.demo.subjects import make_subject

STEPS, BATCH, CLASSES = 60, 2, 4


def block(channels: int, out_channels: int) -> nn.Sequential:
    """Convolution, normalisation, activation."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, padding=1), nn.InstanceNorm2d(out_channels), nn.LeakyReLU()
    )


class Encoder(nn.Module):
    """Three stages, each half as fine as the one before."""

    output_channels = (8, 16, 32)  # the line that guidance needs: channels of the skips, finest first

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([block(1, 8), block(8, 16), block(16, 32)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """The skips, finest first."""
        skips: list[Tensor] = []
        for stage in self.stages:
            skips.append(stage(nn.functional.max_pool2d(skips[-1], 2) if skips else x))
        return skips


class Decoder(nn.Module):
    """Up again, each time with the skip of that size."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([block(32 + 16, 16), block(16 + 8, 8)])
        self.output = nn.Conv2d(8, CLASSES, 1)

    def forward(self, skips: list[Tensor]) -> Tensor:
        """Logits on the grid of the finest skip."""
        x = skips[-1]
        for stage, skip in zip(self.stages, reversed(skips[:-1]), strict=True):
            x = stage(torch.cat((nn.functional.interpolate(x, scale_factor=2), skip), dim=1))
        return self.output(x)


class UNet(nn.Module):
    """An encoder and a decoder, under these names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, 4, Y, X)`` of ``(B, 1, Y, X)``."""
        return self.decoder(self.encoder(x))


def slices(seed: int) -> tuple[Tensor, Tensor]:
    """Axial low-field slices (Z, 1, Y, X) of a phantom, as z-scores, and their tissue labels (Z, Y, X)."""
    subject = make_subject("phantom", seed=seed, shape=(64, 80, 64), spacing_mm=2.75)
    scan = simulate_low_field(subject.image, subject.labels, ratio=3, axis=1, noise_scale=3, seed=seed)
    scan = (scan - scan.mean()) / scan.std()
    return torch.from_numpy(scan.T[16:48].copy())[:, None], torch.from_numpy(subject.labels.T[16:48].copy()).long()


def train(network: nn.Module) -> list[float]:
    """Adam on random slices; the loss of every step."""
    rng, losses = np.random.default_rng(0), []
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(STEPS):
        chosen = rng.choice(len(images), BATCH, replace=False)
        loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


images, labels = slices(seed=0)
test_images, test_labels = slices(seed=1)
torch.manual_seed(0)
plain = UNet()
torch.manual_seed(0)
guided = guide(UNet(), load_keeper(write_untrained_keeper("keeper.safetensors", dim=2)))
losses = {"plain": train(plain), "guided by an untrained keeper": train(guided)}

figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained", width_ratios=(1.4, 1, 1, 1))
for (name, values), style in zip(losses.items(), ("-", "--"), strict=True):
    axes[0].plot(values, style, label=name)
axes[0].set(xlabel="step", ylabel="cross-entropy")
axes[0].legend(frameon=False)
middle = 16
with torch.no_grad():
    shown = [network.eval()(test_images[middle : middle + 1])[0].argmax(0) for network in (plain, guided)]
titles = ("true labels", *losses)
for axis, title, segmentation in zip(axes[1:], titles, (test_labels[middle], *shown), strict=True):
    axis.imshow(segmentation.flip(0), cmap="viridis", vmin=0, vmax=3, interpolation="nearest")
    axis.set_title(title, fontsize="medium")
    axis.set_axis_off()
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "guide_your_own_network.png", dpi=90)
