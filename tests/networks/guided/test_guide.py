"""`guide` puts a keeper beside any encoder-decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.guided.guide import guide
from nnunet_uhf.networks.presets import PRESETS


class Encoder(nn.Module):
    """Two levels."""

    output_channels = (4, 8)

    def __init__(self, dim: int) -> None:
        super().__init__()
        convolution = nn.Conv2d if dim == 2 else nn.Conv3d
        self.fine = convolution(2, 4, 3, padding=1)
        self.coarse = convolution(4, 8, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        fine = self.fine(x).relu()
        return [fine, self.coarse(fine).relu()]


class Decoder(nn.Module):
    """Up, join, classify."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up = (nn.ConvTranspose2d if dim == 2 else nn.ConvTranspose3d)(8, 4, 2, stride=2)
        self.out = (nn.Conv2d if dim == 2 else nn.Conv3d)(8, 3, 1)

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor:
        return self.out(torch.cat((skips[0], self.up(skips[1])), dim=1))


class Own(nn.Module):
    """An encoder-decoder that knows nothing of nnU-Net."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(dim), Decoder(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dim", [2, 3])
def test_before_training_a_guided_network_computes_what_the_network_does(dim: int, preset: str) -> None:
    own, image = Own(dim), torch.rand(1, 2, *[16] * dim)
    guided = guide(own, KnowledgeKeeper(dim=dim, base_features=4), preset=preset, guide_channel=1)
    if preset == "paper":  # whose fusions add to the skips from the first step
        assert not torch.allclose(guided(image), own(image), atol=1e-2)
    else:
        torch.testing.assert_close(guided(image), own(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_step_trains_the_network_and_the_fusions_and_leaves_the_keeper(dim: int) -> None:
    guided = guide(Own(dim), KnowledgeKeeper(dim=dim, base_features=4)).train()
    guided(torch.rand(1, 2, *[16] * dim)).square().mean().backward()
    assert all(weight.grad is not None for weight in guided.encoder.parameters())
    assert any(weight.grad is not None for weight in guided.fusions.parameters())
    assert all(weight.grad is None for weight in guided.keeper.parameters())


def test_a_keeper_of_another_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="the keeper is 2D, the network 3D"):
        guide(Own(3), KnowledgeKeeper(dim=2, base_features=4))


def test_a_network_without_encoder_is_refused() -> None:
    with pytest.raises(TypeError, match="Conv2d cannot be guided"):
        guide(nn.Conv2d(1, 1, 1), KnowledgeKeeper(dim=2, base_features=4))


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no preset 'fast': choose one of reference, efficient"):
        guide(Own(2), KnowledgeKeeper(dim=2, base_features=4), preset="fast")
