"""The knowledge keeper."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.network_contract import ANISOTROPIC_STRIDES, StridedContract
from nnunet_uhf.networks.distillation.keeper import DenseBlock, GuideBlock, KnowledgeKeeper
from nnunet_uhf.networks.distillation.teacher import UHFTeacher


class TestKnowledgeKeeper(StridedContract):
    def make(self, dim: int, **options: object) -> nn.Module:
        return KnowledgeKeeper(dim=dim, base_features=4, **options)

    def check_shapes(self, network: nn.Module, output: list[Tensor], *, batch: int, size: tuple[int, ...]) -> None:
        assert len(output) == 5
        for guide, channels, stride in zip(output, network.channels, network.strides, strict=True):
            expected = [max(1, n // s) for n, s in zip(size, stride, strict=True)]
            assert tuple(guide.shape) == (batch, channels, *expected)

    @pytest.mark.parametrize(
        ("dim", "base_features", "authors", "biases"),
        [(3, 16, 34_960_348, 248), (2, 16, 161_823, 72), (2, 32, 643_803, 136)],
    )
    def test_the_keeper_has_the_authors_parameters_and_biases_of_its_own(
        self, dim: int, base_features: int, authors: int, biases: int
    ) -> None:
        with torch.device("meta"):
            keeper = KnowledgeKeeper(dim=dim, base_features=base_features)
        assert sum(p.numel() for name, p in keeper.named_parameters() if not name.endswith("bias")) == authors
        assert sum(p.numel() for name, p in keeper.named_parameters() if name.endswith("bias")) == biases

    def test_the_keeper_of_version_0_1_0_had_half_of_the_convolutions_in_2d(self) -> None:
        with torch.device("meta"):
            before, now = KnowledgeKeeper(dim=2, convolutions=1), KnowledgeKeeper(dim=2)
            deep = KnowledgeKeeper(dim=3)
        assert sum(p.numel() for p in before.parameters()) == 87_415
        assert before.state_dict().keys() < now.state_dict().keys()
        assert [network.config()["convolutions"] for network in (before, now, deep)] == [1, 2, 1]
        # conv 7^3 of guide 5, no bias: 224 dense features (a transition of 32 and 3 x 64 grown) to 256
        assert deep.guides[-1].skip[0].weight.numel() / 1e6 == pytest.approx(19.7, abs=0.05)

    @pytest.mark.parametrize("dim", [2, 3])
    def test_guides_have_the_teachers_sizes_and_channels(self, dim: int) -> None:
        image = torch.randn(1, 1, *[24] * dim)
        guides = KnowledgeKeeper(dim=dim, base_features=4).features(image)
        maps = UHFTeacher(dim=dim, base_features=4).encode(image)
        assert [g.shape for g in guides] == [m.shape for m in maps]

    def test_guides_have_the_teachers_sizes_with_anisotropic_strides(self) -> None:
        image = torch.randn(1, 1, 7, 20, 33)
        guides = KnowledgeKeeper(dim=3, base_features=4, strides=ANISOTROPIC_STRIDES).features(image)
        maps = UHFTeacher(dim=3, base_features=4, strides=ANISOTROPIC_STRIDES).encode(image)
        assert [g.shape for g in guides] == [m.shape for m in maps]

    @pytest.mark.parametrize(
        "options", [{"base_features": 6}, {"base_features": 0}, {"kernel_size": 4}, {"convolutions": 3}]
    )
    def test_arguments_without_a_meaning_are_refused(self, options: dict[str, int]) -> None:
        with pytest.raises(ValueError, match=r"multiple of 4|odd|1 or 2"):
            KnowledgeKeeper(dim=2, **options)


@pytest.mark.parametrize("convolutions", [1, 2])
@pytest.mark.parametrize("dim", [2, 3])
def test_the_merged_dense_block_equals_three_convolutions_on_concatenations(dim: int, convolutions: int) -> None:
    size, width, growth = (9, 10, 11)[:dim], 3, 2
    block = DenseBlock(dim, width, growth, 7, convolutions)
    x = torch.randn(2, width, *size)
    shared, first, second = block.shared.weight, block.from_first.weight, block.from_second.weight
    weights = [
        shared[:growth],
        torch.cat((shared[growth : 2 * growth], first[:growth]), dim=1),
        torch.cat((shared[2 * growth :], first[growth:], second), dim=1),
    ]
    convolve = F.conv2d if dim == 2 else F.conv3d

    def cb(maps: Tensor, weight: Tensor) -> Tensor:
        return F.leaky_relu(F.instance_norm(convolve(maps, weight, padding=3)), 0.01)

    seen = x
    for weight, tail in zip(weights, block.tails, strict=True):
        grown = cb(seen, weight)
        if convolutions == 2:
            grown = cb(grown, tail[2].weight)
        seen = torch.cat((seen, grown), dim=1)
    torch.testing.assert_close(block(x), seen, atol=1e-5, rtol=1e-5)


def test_dense_blocks_start_with_the_spread_of_the_concatenated_convolutions() -> None:
    width, growth, taps = 16, 64, 27
    block = DenseBlock(3, width, growth, 3)
    groups = {
        0: [block.shared.weight[:growth]],
        1: [block.shared.weight[growth : 2 * growth], block.from_first.weight[:growth]],
        2: [block.shared.weight[2 * growth :], block.from_first.weight[growth:], block.from_second.weight],
    }
    gain = nn.init.calculate_gain("leaky_relu", 0.01)
    for earlier, weights in groups.items():
        expected = gain / ((width + earlier * growth) * taps) ** 0.5
        for weight in weights:
            assert weight.std().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_guide_block_equals_attention_over_a_concatenation(dim: int) -> None:
    block = GuideBlock(dim, 10, 4, 8, 7, position_branch=True)
    dense, coarser = torch.randn(2, 10, *[12] * dim), torch.randn(2, 8, *[6] * dim)
    mode = "bilinear" if dim == 2 else "trilinear"
    below = block.narrow(F.interpolate(coarser, scale_factor=2, mode=mode, align_corners=False))
    skip = block.skip(dense)
    weight = torch.cat((block.attend_coarse.weight, block.attend_skip.weight), dim=1)
    convolve = F.conv2d if dim == 2 else F.conv3d
    attention = convolve(torch.cat((below, skip), dim=1), weight, block.attend_coarse.bias).sigmoid()
    expected = block.gate(below * attention[:, :1] + skip * attention[:, 1:])
    torch.testing.assert_close(block(dense, coarser), expected, atol=1e-5, rtol=1e-5)


def test_two_convolutions_stand_in_dense_blocks_and_guide_skips_and_one_in_transitions() -> None:
    keeper = KnowledgeKeeper(dim=2, base_features=4)

    def convolutions(module: nn.Module) -> list[tuple[int, ...]]:
        return [m.kernel_size for m in module.modules() if isinstance(m, nn.Conv2d)]

    for block, guide in zip(keeper.dense, keeper.guides, strict=True):
        assert [convolutions(tail) for tail in block.tails] == [[(7, 7)]] * 3
        assert convolutions(guide.skip) == [(7, 7)] * 2
        assert guide.skip[0].out_channels == guide.skip[3].in_channels == guide.skip[3].out_channels
    assert [convolutions(transition) for transition in keeper.transitions] == [[(4, 4)]] * 4


def test_growth_and_transitions_are_the_papers() -> None:
    with torch.device("meta"):
        keeper = KnowledgeKeeper(dim=3, base_features=16)
    assert [block.growth for block in keeper.dense] == [4, 8, 16, 32, 64]
    assert [block.out_channels for block in keeper.dense] == [13, 28, 56, 112, 224]
    for (before, after), transition in zip(pairwise(keeper.dense), keeper.transitions, strict=True):
        convolution = transition[0]
        assert (convolution.in_channels, convolution.out_channels) == (before.out_channels, before.growth)
        assert (convolution.kernel_size, convolution.stride) == ((4, 4, 4), (2, 2, 2))
        assert convolution.out_channels == after.shared.in_channels
