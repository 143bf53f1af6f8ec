"""The light fusion module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from helpers.network_contract import GUIDE_CHANNELS, FusionContract, wake
from nnunet_uhf.networks.guided.fusion import AdaptiveFusion
from nnunet_uhf.networks.guided.fusion_kinds import build_fusion, is_fusion_entry
from nnunet_uhf.networks.guided.light_fusion import LightFusion
from nnunet_uhf.networks.presets import PRESETS


class TestLightFusion(FusionContract):
    fusion = LightFusion


@pytest.mark.parametrize("gate", ["sigmoid", "relu"])
def test_it_is_the_papers_formula_in_a_narrow_space(gate: str) -> None:
    fusion = LightFusion((4, 8), 32, dim=2, init="reference", gate=gate)
    skip, guides = torch.randn(2, 32, 16, 16), [torch.randn(2, 4, 16, 16), torch.randn(2, 8, 8, 8)]
    resized = [F.interpolate(g, size=(16, 16), mode="bilinear") for g in guides]
    # 1x1 of a concatenation is the sum of 1x1
    weight = torch.cat([p.weight for p in fusion.projections], dim=1)
    u = torch.relu(F.instance_norm(F.conv2d(torch.cat(resized, dim=1), weight)))
    v = F.instance_norm(
        F.conv2d(u, fusion.combine_guides.weight, padding=1) + F.conv2d(skip, fusion.combine_skip.weight)
    )
    expected = skip
    for attention, part in ((fusion.positive, v * (v > 0)), (fusion.negative, v * (v < 0))):
        weights = attention(part.flatten(2).mean(dim=2))
        expected = expected + F.conv2d(part * weights[:, :, None, None], fusion.widen.weight)
    assert fusion.widen.in_channels == 4
    torch.testing.assert_close(fusion(skip, guides), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dim", [2, 3])
def test_identity_initialisation_passes_the_skip_through(dim: int) -> None:
    skip, guides = TestLightFusion().inputs(dim, (16,) * dim)
    assert torch.equal(LightFusion(GUIDE_CHANNELS, 10, dim=dim)(skip, guides), skip)


def test_identity_initialisation_learns_to_widen_at_once_and_all_else_after_one_step() -> None:
    fusion = LightFusion(GUIDE_CHANNELS, 10, dim=2)
    skip, guides = TestLightFusion().inputs(2, (32, 24))
    probe = torch.randn_like(skip)
    optimiser = torch.optim.SGD(fusion.parameters(), lr=0.01)
    (fusion(skip, guides) * probe).sum().backward()
    assert fusion.widen.weight.grad.ne(0).all()
    optimiser.step()
    optimiser.zero_grad()
    (fusion(skip, guides) * probe).sum().backward()
    assert all(p.grad.any() for p in fusion.parameters())


def test_every_guide_is_heard() -> None:
    fusion = LightFusion(GUIDE_CHANNELS, 10, dim=2, init="reference")
    skip, guides = TestLightFusion().inputs(2, (32, 32))
    heard = fusion(skip, guides)
    for level in range(len(guides)):
        changed = [torch.randn_like(g) if other == level else g for other, g in enumerate(guides)]
        assert (fusion(skip, changed) - heard).abs().max() > 1e-3


def test_reduced_precision_skips_stay_in_reduced_precision() -> None:
    fusion = LightFusion(GUIDE_CHANNELS, 10, dim=2)
    wake(fusion)
    skip, guides = TestLightFusion().inputs(2, (32, 24))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = fusion(skip.bfloat16(), guides)
    assert fused.dtype == torch.bfloat16


def test_the_light_fusion_has_a_twentieth_of_the_references_parameters() -> None:
    light, full = (
        sum(
            p.numel()
            for p in build_fusion(PRESETS[name].fusion, (16, 32, 64, 128, 256), 256, dim=3, stage=3).parameters()
        )
        for name in ("light", "reference")
    )
    assert light < full / 20


@pytest.mark.parametrize(("reduction", "widths"), [(8, [8, 8, 8]), ([8, 4], [8, 16, 16]), ([16, 8, 4], [4, 8, 16])])
def test_a_list_of_reductions_is_by_stage_and_its_last_is_for_all_coarser_ones(
    reduction: int | list[int], widths: list[int]
) -> None:
    entry = {**PRESETS["light"].fusion, "reduction": reduction}
    assert is_fusion_entry(entry)
    fusions = [build_fusion(entry, GUIDE_CHANNELS, 64, dim=2, stage=stage) for stage in range(3)]
    assert [fusion.widen.in_channels for fusion in fusions if isinstance(fusion, LightFusion)] == widths


def test_an_entry_without_a_kind_is_the_reference() -> None:
    assert isinstance(
        build_fusion({"init": "identity", "gate": "sigmoid"}, GUIDE_CHANNELS, 10, dim=2, stage=0), AdaptiveFusion
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_built(preset: str) -> None:
    assert is_fusion_entry(PRESETS[preset].fusion)
    build_fusion(PRESETS[preset].fusion, GUIDE_CHANNELS, 10, dim=2, stage=0)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "heavy"},
        {"kind": ["light"]},
        {"reduction": 0},
        {"reduction": True},
        {"reduction": None},
        {"reduction": []},
        {"reduction": [8, "4"]},
        {"more": 1},
    ],
)
def test_other_entries_are_refused(change: dict[str, Any]) -> None:
    assert not is_fusion_entry({**PRESETS["light"].fusion, **change})
    assert not is_fusion_entry({"init": "identity", "gate": "sigmoid", "reduction": 8})


@pytest.mark.parametrize("options", [{"init": "zero"}, {"gate": "tanh"}])
def test_unknown_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="init is one of"):
        LightFusion(GUIDE_CHANNELS, 10, dim=2, **options)
