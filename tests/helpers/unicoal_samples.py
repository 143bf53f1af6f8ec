"""Tiny Uni-COAL networks and questions to them."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_uhf.networks.unicoal.discriminator import Discriminator
from nnunet_uhf.networks.unicoal.network import UniCOAL, architecture_of, decoder_of
from nnunet_uhf.networks.unicoal.presets import SIZES
from nnunet_uhf.networks.unicoal.question import FEATURES, Question, encoded

CODE = 3


def made_generator(preset: str = "tiny", *, sources: int = 4, numbers: int = FEATURES, **options: Any) -> UniCOAL:
    """A generator with random weights."""
    sizes = SIZES[preset].as_json()
    architecture = architecture_of(sizes, sources=sources, code=CODE, numbers=numbers, **options)
    return UniCOAL(architecture, decoder_of(architecture))


def made_discriminator(preset: str = "tiny", *, numbers: int = FEATURES) -> Discriminator:
    """A discriminator with random weights."""
    sizes = {name: SIZES[preset].as_json()[name] for name in ("size", "base_channels", "max_channels", "embedding")}
    return Discriminator(in_channels=5, code=CODE, numbers=numbers, **sizes)


def asked(delta: list[float], *, sources: int = 4, seed: int = 0) -> Question:
    """A question for every place between two slices."""
    made = torch.Generator().manual_seed(seed)
    batch = len(delta)
    code = torch.eye(CODE)[:1].expand(batch, -1)
    return Question(
        condition=torch.cat([code, encoded(torch.tensor(delta)[:, None])], dim=1),
        noise=torch.randn(batch, SIZES["tiny"].embedding, generator=made),
        place=torch.zeros(batch, 2),
        weights=torch.zeros(batch, sources),
    )


def decibels(truth: torch.Tensor, error: torch.Tensor) -> float:
    """PSNR of an error, by the range of the truth."""
    reach = truth.max() - truth.min()
    return float(10 * torch.log10(reach.square() / error.square().mean()))
