"""What a tiny Uni-COAL learns in seconds on made volumes: to come nearer to slices between thick ones than a spline."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from helpers.unicoal_samples import CODE, decibels
from nnunet_uhf.networks.unicoal.network import UniCOAL, architecture_of, decoder_of
from nnunet_uhf.networks.unicoal.presets import SIZES
from nnunet_uhf.networks.unicoal.question import FEATURES, Question, encoded, interpolation_weights
from nnunet_uhf.preprocessing.low_field.slice_profile import profile_weights

RATIO, SIDE, DEPTH = 4, 32, 64
SMALL = {"layers": 4, "base_channels": 1024, "max_channels": 16}
DELTAS = [0.0, 0.25, 0.5, 0.75]


def volume(seed: int) -> np.ndarray:
    """Two tissues with a curved border, and air: `(Z, Y, X)`, from -1 to 1."""
    noise = np.random.default_rng(seed).normal(size=(DEPTH, SIDE, SIDE))
    smooth = ndimage.gaussian_filter(noise, 2, mode="wrap")
    smooth /= smooth.std()
    return np.where(smooth > 0.5, 0.8, np.where(smooth > -0.5, 0.0, -0.9)).astype(np.float32)


def pairs(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """All that a volume has to ask: four thick slices, the slice between them, its place."""
    image = volume(seed)
    thick = profile_weights(DEPTH, [float(z) for z in range(DEPTH)], thickness=RATIO) @ image.reshape(DEPTH, -1)
    thick = thick.reshape(image.shape).astype(np.float32)
    asked = [(z, delta) for z in range(2 * RATIO, DEPTH - 3 * RATIO) for delta in DELTAS]
    slices = np.stack([thick[[z + (step - 1) * RATIO for step in range(4)]] for z, _ in asked])
    target = np.stack([image[z + round(delta * RATIO)] for z, delta in asked])[:, None]
    return torch.from_numpy(slices), torch.from_numpy(target), torch.tensor([delta for _, delta in asked])


def question(deltas: Tensor, noise: Tensor) -> Question:
    count = len(deltas)
    return Question(
        condition=torch.cat([torch.eye(CODE)[:1].expand(count, -1), encoded(deltas[:, None])], dim=1),
        noise=noise.expand(count, -1),
        place=torch.zeros(count, 2),
        weights=torch.tensor([interpolation_weights(float(delta), [True] * 4) for delta in deltas]),
    )


def test_slices_between_thick_ones_come_nearer_to_the_truth_than_a_spline() -> None:
    torch.manual_seed(0)
    sizes = {**SIZES["tiny"].as_json(), **SMALL}
    architecture = architecture_of(sizes, sources=4, code=CODE, numbers=FEATURES, dropout=0.0)
    network = UniCOAL(architecture, decoder_of(architecture))
    noise = torch.randn(1, network.decoder.noise)
    parts = [torch.cat(part) for part in zip(*(pairs(seed) for seed in range(4)), strict=True)]
    optimiser, steps = torch.optim.Adam(network.parameters(), lr=5e-2, betas=(0.9, 0.99)), 50
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 5e-2 * min(1, 2 - 2 * step / steps)
        chosen = torch.randint(len(parts[0]), (4,))
        slices, target, deltas = (part[chosen] for part in parts)
        optimiser.zero_grad()
        F.l1_loss(network(slices, question(deltas, noise)), target).backward()
        optimiser.step()
    slices, target, deltas = (part[::8] for part in pairs(99))
    asked = question(deltas, noise)
    with torch.no_grad():
        made = network.eval()(slices, asked)
    spline = torch.einsum("bc,bchw->bhw", asked.weights, slices)[:, None]
    assert float(F.l1_loss(made, target)) < 0.96 * float(F.l1_loss(spline, target))
    assert decibels(target, made - target) > decibels(target, spline - target) + 0.1
