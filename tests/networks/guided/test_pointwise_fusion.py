"""The fusion of matrix products."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.network_contract import GUIDE_CHANNELS, FusionContract, wake
from nnunet_uhf.networks.guided.fusion_kinds import build_fusion, is_fusion_entry
from nnunet_uhf.networks.guided.pointwise_fusion import PointwiseFusion
from nnunet_uhf.networks.presets import PRESETS

HALVED = {dim: tuple((2**level,) * dim for level in range(1, 6)) for dim in (2, 3)}


class TestPointwiseFusion(FusionContract):
    """Of the second stage: its guide has its resolution."""

    stage = 1

    def make(self, dim: int, **options: Any) -> nn.Module:
        return PointwiseFusion(GUIDE_CHANNELS, 10, dim=dim, strides=HALVED[dim], stage=self.stage, **options)

    def rebuild(self, network: Any) -> nn.Module:
        return self.make(3 if isinstance(network.widen, nn.Conv3d) else 2)


class TestFinestPointwiseFusion(TestPointwiseFusion):
    """Of the finest stage: its guide has half of its resolution."""

    stage = 0

    def inputs(self, dim: int, size: tuple[int, ...], batch: int = 2) -> tuple[Any, ...]:
        skip, guides = super().inputs(dim, size, batch)
        halves = [max(1, n // 2) for n in skip.shape[2:]]
        return skip, [torch.randn(batch, GUIDE_CHANNELS[0], *halves), *guides[1:]]


def inputs(stage: int) -> tuple[Tensor, list[Tensor]]:
    """Skip of a stage, and guides at strides 2, 4, .. of an image of 32 x 48."""
    skip = torch.randn(2, 16, 32 // 2**stage, 48 // 2**stage)
    return skip, [torch.randn(2, c, 32 // 2 ** (level + 1), 48 // 2 ** (level + 1)) for level, c in enumerate((8, 16))]


def test_below_the_finest_stage_it_is_the_formula_of_its_docstring() -> None:
    fusion = PointwiseFusion((8, 16), 16, dim=2, strides=HALVED[2][:2], stage=2, init="reference")
    skip, guides = inputs(2)
    mixed = F.relu(
        F.conv2d(guides[1], fusion.combine_guides.weight, fusion.combine_guides.bias)
        + F.conv2d(skip, fusion.combine_skip.weight)
    )
    torch.testing.assert_close(fusion(skip, guides), skip + F.conv2d(mixed, fusion.widen.weight), atol=1e-5, rtol=1e-5)


def test_at_the_finest_stage_a_voxel_of_the_guide_gives_the_voxels_it_covers() -> None:
    fusion = PointwiseFusion((8, 16), 16, dim=2, strides=HALVED[2][:2], stage=0, init="reference")
    skip, guides = inputs(0)
    added = F.pixel_shuffle(F.conv2d(guides[0], fusion.widen.weight), 2)
    torch.testing.assert_close(fusion(skip, guides), skip + added, atol=1e-5, rtol=1e-5)
    odd = skip[:, :, :31, :47]
    torch.testing.assert_close(fusion(odd, guides), odd + added[:, :, :31, :47], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("stage", "level"), [(0, 0), (1, 0), (2, 1), (3, 2), (5, 4), (7, 4)])
def test_a_stage_hears_the_guide_of_its_own_resolution(stage: int, level: int) -> None:
    halved = PointwiseFusion(GUIDE_CHANNELS, 16, dim=2, strides=HALVED[2], stage=stage)
    assert halved.level == level
    assert PointwiseFusion(GUIDE_CHANNELS, 16, dim=2, stage=stage).level == min(stage, 4)


def test_guides_of_another_resolution_are_resized() -> None:
    for stage in (0, 1):
        fusion = wake(PointwiseFusion((8, 16), 16, dim=2, strides=HALVED[2][:2], stage=stage))
        skip, guides = inputs(stage)
        assert fusion(skip, [F.avg_pool2d(guide, 2) for guide in guides]).shape == skip.shape


@pytest.mark.parametrize("stage", [0, 2])
def test_identity_initialisation_passes_the_skip_through_and_learns_at_once(stage: int) -> None:
    fusion = PointwiseFusion((8, 16), 16, dim=2, strides=HALVED[2][:2], stage=stage)
    skip, guides = inputs(stage)
    fused = fusion(skip, guides)
    assert torch.equal(fused, skip)
    (fused * torch.randn_like(fused)).sum().backward()
    assert fusion.widen.weight.grad.ne(0).all()


def test_every_width_is_a_multiple_of_eight() -> None:
    for channels in (4, 30, 32, 64, 320):
        fusion = PointwiseFusion((16, 32), channels, dim=3, stage=1, reduction=4)
        assert fusion.widen.in_channels % 8 == 0
        assert fusion.widen.in_channels >= channels / 4


@pytest.mark.parametrize("change", [{"gate": "relu"}, {"reduction": 0}, {"reduction": "4"}, {"init": "zero"}])
def test_other_entries_are_refused(change: dict[str, Any]) -> None:
    entry = PRESETS["efficient"].fusion
    assert is_fusion_entry(entry)
    assert not is_fusion_entry({**entry, **change})
    assert not is_fusion_entry({"init": "identity", "kind": "pointwise"})


def test_the_efficient_preset_builds_it() -> None:
    fusion = build_fusion(PRESETS["efficient"].fusion, GUIDE_CHANNELS, 16, dim=2, stage=0, strides=HALVED[2])
    assert isinstance(fusion, PointwiseFusion)
    assert fusion.step == (2, 2)
