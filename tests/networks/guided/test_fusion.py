"""The adaptive fusion module."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.network_contract import GUIDE_CHANNELS, PATCHES, USUAL, FusionContract, wake
from nnunet_uhf.networks.guided.fusion import AdaptiveFusion, ChannelAttention


class TestAdaptiveFusion(FusionContract):
    fusion = AdaptiveFusion


def literal_fusion(fusion: AdaptiveFusion, skip: Tensor, guides: list[Tensor], scale: Tensor | float = 1.0) -> Tensor:
    """The formula of the paper: resize, then project; concatenate; two masked branches, two poolings."""
    dim = skip.ndim - 2
    convolve, mode = (F.conv2d, "bilinear") if dim == 2 else (F.conv3d, "trilinear")
    resized = [F.interpolate(g, size=skip.shape[2:], mode=mode, align_corners=False) for g in guides]
    u = fusion.aggregate(torch.cat([p(g) for p, g in zip(fusion.projections, resized, strict=True)], dim=1))
    weight = torch.cat((fusion.combine_guides.weight, fusion.combine_skip.weight), dim=1)
    v = F.instance_norm(convolve(torch.cat((u, skip), dim=1), weight, padding=1))
    out = skip
    for attention, part in ((fusion.positive, v * (v > 0)), (fusion.negative, v * (v < 0))):
        weights = attention(part.flatten(2).mean(dim=2))
        out = out + scale * part * weights.reshape(*weights.shape, *[1] * dim)
    return out


@pytest.mark.parametrize(
    ("channels", "authors"), [((16, 32, 64, 128, 256), 9_625_808), ((16,) * 5, 49_360)], ids=["3d", "2d"]
)
def test_five_fusions_have_the_authors_parameters_and_biases_of_convolutions(
    channels: tuple[int, ...], authors: int
) -> None:
    dim = 3 if channels[-1] > channels[0] else 2
    with torch.device("meta"):
        fusions = [AdaptiveFusion(channels, c, dim=dim, init="reference", gate="relu") for c in channels]
    ours = ("projections", "aggregate")  # their convolutions have biases here; those of linear layers are the authors'
    parameters = [
        parameter.numel()
        for fusion in fusions
        for name, parameter in fusion.named_parameters()
        if not (name.startswith(ours) and name.endswith("bias"))
    ]
    assert sum(parameters) == authors


@pytest.mark.parametrize("gate", ["sigmoid", "relu"])
@pytest.mark.parametrize(("dim", "size"), [*USUAL, (3, PATCHES[3][0])])
def test_the_rewritten_fusion_equals_the_papers_formula(dim: int, size: tuple[int, ...], gate: str) -> None:
    fusion = AdaptiveFusion(GUIDE_CHANNELS, 10, dim=dim, init="reference", gate=gate)
    skip, guides = TestAdaptiveFusion().inputs(dim, size)
    torch.testing.assert_close(fusion(skip, guides), literal_fusion(fusion, skip, guides), atol=1e-5, rtol=1e-5)


def test_the_scaled_fusion_equals_the_papers_formula_with_a_factor_per_channel() -> None:
    fusion = AdaptiveFusion(GUIDE_CHANNELS, 10, dim=2)
    wake(fusion)
    skip, guides = TestAdaptiveFusion().inputs(2, (32, 24))
    expected = literal_fusion(fusion, skip, guides, fusion.scale.reshape(1, -1, 1, 1))
    torch.testing.assert_close(fusion(skip, guides), expected, atol=1e-5, rtol=1e-5)


def test_gradients_of_the_rewritten_fusion_are_those_of_the_papers_formula() -> None:
    fusion = AdaptiveFusion(GUIDE_CHANNELS, 10, dim=2, init="reference").double()
    skip, guides = TestAdaptiveFusion().inputs(2, (32, 24))
    skip, guides = skip.double(), [g.double() for g in guides]
    probe = torch.randn_like(skip)
    parameters = dict(fusion.named_parameters())
    ours = torch.autograd.grad((fusion(skip, guides) * probe).sum(), list(parameters.values()))
    theirs = torch.autograd.grad((literal_fusion(fusion, skip, guides) * probe).sum(), list(parameters.values()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_identity_initialisation_passes_the_skip_through(dim: int) -> None:
    skip, guides = TestAdaptiveFusion().inputs(dim, (16,) * dim)
    fused = AdaptiveFusion(GUIDE_CHANNELS, 10, dim=dim, init="identity")(skip, guides)
    torch.testing.assert_close(fused, skip, atol=1e-6, rtol=0)


def test_identity_initialisation_learns_its_scale_at_once_and_all_else_after_one_step() -> None:
    fusion = AdaptiveFusion(GUIDE_CHANNELS, 10, dim=2, init="identity")
    skip, guides = TestAdaptiveFusion().inputs(2, (32, 24))
    probe = torch.randn_like(skip)
    optimiser = torch.optim.SGD(fusion.parameters(), lr=0.01)
    (fusion(skip, guides) * probe).sum().backward()
    assert fusion.scale.grad.ne(0).all()
    optimiser.step()
    optimiser.zero_grad()
    (fusion(skip, guides) * probe).sum().backward()
    assert all(p.grad.any() for p in fusion.parameters())


@pytest.mark.parametrize("gate", ["sigmoid", "relu"])
def test_reference_initialisation_changes_the_skip_by_the_share_the_paper_starts_with(gate: str) -> None:
    skip, guides = torch.randn(2, 32, 16, 16), [torch.randn(2, c, 16, 16) for c in GUIDE_CHANNELS]
    fused = AdaptiveFusion(GUIDE_CHANNELS, 32, dim=2, init="reference", gate=gate)(skip, guides)
    share = ((fused - skip).norm() / skip.norm()).item()
    assert 0.2 < share < 1.2  # 0.53 to 0.78 on a real network; one random draw scatters around it


def test_the_sigmoid_gate_leaves_no_channel_dead() -> None:
    dead = {}
    for gate in ("sigmoid", "relu"):
        torch.manual_seed(1)
        attention = ChannelAttention(64, gate)
        dead[gate] = (attention(torch.rand(1, 64)) == 0).float().mean().item()
    assert dead["sigmoid"] == 0
    assert dead["relu"] > 0.1


def test_few_channels_still_get_one_projection_each() -> None:
    fusion = AdaptiveFusion(GUIDE_CHANNELS, 4, dim=2)
    assert [p.out_channels for p in fusion.projections] == [1] * 5


def test_reduced_precision_skips_stay_in_reduced_precision() -> None:
    fusion = AdaptiveFusion(GUIDE_CHANNELS, 10, dim=2)
    wake(fusion)
    skip, guides = TestAdaptiveFusion().inputs(2, (32, 24))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = fusion(skip.bfloat16(), guides)
    assert fused.dtype == torch.bfloat16  # or every stage would hold a map twice as large as the plain network's


@pytest.mark.parametrize("options", [{"init": "zero"}, {"gate": "tanh"}])
def test_unknown_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="init is one of"):
        AdaptiveFusion(GUIDE_CHANNELS, 10, dim=2, **options)
