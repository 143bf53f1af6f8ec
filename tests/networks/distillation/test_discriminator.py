"""The discriminator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.network_contract import NetworkContract
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator


class TestPatchDiscriminator(NetworkContract):
    def make(self, dim: int, **options: Any) -> nn.Module:
        return PatchDiscriminator(dim=dim, base_features=4, **options)

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 1, *(max(n, 32) // 16 - 1 for n in size))


@pytest.mark.parametrize(("dim", "authors"), [(3, 697_344), (2, 174_336)])
def test_the_discriminator_has_the_authors_parameters_and_one_bias(dim: int, authors: int) -> None:
    with torch.device("meta"):
        discriminator = PatchDiscriminator(dim=dim, base_features=16)
    assert sum(p.numel() for p in discriminator.parameters()) == authors + 1


def test_scores_are_not_squashed() -> None:
    discriminator = PatchDiscriminator(dim=2, base_features=4)
    with torch.no_grad():
        discriminator.score.bias.fill_(5.0)
    assert discriminator(torch.randn(1, 1, 64, 64)).mean() > 2  # a least-squares discriminator has no sigmoid
