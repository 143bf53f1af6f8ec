"""Sizes and shapes of the networks of PTA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nnunet_uhf.networks.kinds import KINDS, why_no_guide
from nnunet_uhf.networks.pta.generators import ResnetTrunk, TanhHead, UNetTrunk, from_unit, to_unit
from nnunet_uhf.networks.pta.hybrid_generator import HybridTrunk
from nnunet_uhf.networks.pta.kind import GENERATORS, pta_generator
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.networks.pta.slice_encoder import SliceEncoder, SlicePerception
from nnunet_uhf.networks.pta.structure_net import StructureNet

SMALL: dict[str, dict[str, Any]] = {
    "resnet": {"features": 4, "blocks": 1},
    "unet": {"features": 4, "halvings": 5},
    "hybrid": {"features": 4, "width": 24, "heads": 3, "patch_size": [48, 32]},
}


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def head(generator: str, features: int) -> TanhHead:
    return TanhHead(generator=generator, features=features, target_range=(-2.0, 3.0))


def small(generator: str, **options: Any) -> Any:
    trunk = {"source_range": [-1.5, 2.5], **SMALL[generator], **options}
    width = trunk["features"] * (2 if generator == "unet" else 1)
    decoder = {"generator": generator, "features": width, "target_range": [-2.0, 3.0]}
    return pta_generator(generator, trunk, decoder).eval()


def test_every_network_has_as_many_parameters_as_the_authors() -> None:
    with torch.device("meta"):
        assert count(SliceEncoder()) == 4_949_248
        assert count(SlicePerception(encoders=2)) == 9_898_497
        assert count(StructureNet(norm_last=True)) == 1_624_844
        assert count(StructureNet()) == 1_624_843
        assert count(ResnetTrunk(), head("resnet", 64)) == 11_365_633
        assert count(UNetTrunk(), head("unet", 128)) == 41_819_521
        hybrid = HybridTrunk()
        assert count(hybrid, head("hybrid", 16)) == 40_345_828
        assert count(hybrid.foreground) == 313_475
        assert count(PatchGAN()) == 2_762_689
        assert count(PatchGAN(in_channels=2)) == 2_763_713


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("size", [(48, 32), (50, 36), (17, 70)])
def test_a_generator_makes_an_image_of_the_size_it_is_given_within_the_range_of_its_target(
    generator: str, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = small(generator)
    image = network(5 * torch.randn(2, 1, *size))
    assert image.shape == (2, 1, *size)
    assert image.min() >= -2
    assert image.max() <= 3


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_generator_is_described_by_its_kind_and_rebuilt_from_its_configuration(generator: str) -> None:
    network = small(generator)
    kind = KINDS[f"pta_{generator}"]
    architecture, decoder = network.keeper.config(), network.decoder.config()
    assert architecture.keys() == kind.arguments.keys()
    for values, checks in ((architecture, kind.arguments), (decoder, kind.decoder_arguments)):
        assert all(checks[name][0](value) for name, value in values.items())
    assert kind.problem(architecture) is None
    assert kind.decoder_problem(architecture, decoder) is None
    assert kind.decoder_problem(architecture, {**decoder, "features": 5}) is not None
    again = kind.enhancer(architecture, decoder).eval()
    again.load_state_dict(network.state_dict())
    source = torch.randn(1, 1, 48, 32)
    assert torch.equal(again(source), network(source))
    assert kind.channels(architecture) == network.keeper.channels
    (level,) = network.keeper(source)
    stride = network.keeper.strides[0][0]
    assert level.shape == (1, network.keeper.channels[0], 48 // stride, 32 // stride)
    assert "pseudo-pairs" in str(why_no_guide(kind.name, architecture))


def test_several_slices_give_the_image_of_the_middle_one() -> None:
    assert small("resnet", in_channels=3)(torch.randn(1, 3, 32, 32)).shape == (1, 1, 32, 32)
    with pytest.raises(ValueError, match="odd"):
        small("resnet", in_channels=2)


def test_z_scores_go_to_the_unit_range_and_back_and_what_lies_beyond_is_cut() -> None:
    scores = torch.tensor([-3.0, -1.5, 0.5, 2.5, 9.0])
    unit = to_unit(scores, (-1.5, 2.5))
    assert unit.tolist() == [-1, -1, 0, 1, 1]
    assert from_unit(unit, (-1.5, 2.5)).tolist() == [-1.5, -1.5, 0.5, 2.5, 2.5]


def test_background_tokens_see_their_window_alone_and_foreground_tokens_the_whole_foreground() -> None:
    torch.manual_seed(0)
    block = HybridTrunk(**SMALL["hybrid"]).blocks[0].eval()
    tokens = torch.randn(1, 4, 4, 24)
    foreground = torch.zeros(1, 4, 4, dtype=torch.bool)
    foreground[0, 0, 0] = foreground[0, 3, 3] = True
    moved = tokens.clone()
    moved[0, 3, 3] += torch.randn(24)
    changed = (block(tokens, foreground) - block(moved, foreground)).abs().amax(dim=-1)[0] > 1e-6
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[2:, 2:] = True  # its window
    expected[0, 0] = True  # the other foreground token
    assert torch.equal(changed, expected)


def test_an_image_without_any_foreground_token_is_no_nan() -> None:
    network = small("hybrid", threshold=1.0)
    assert torch.isfinite(network(torch.randn(2, 1, 48, 32))).all()


def test_embeddings_have_unit_length_whatever_the_size_and_one_encoder_may_serve_both_domains() -> None:
    torch.manual_seed(0)
    small_encoder = {"width": 16, "depth": 1, "heads": 2, "embedding": 8, "side": 32}
    for encoders, other in ((1, False), (2, True)):
        network = SlicePerception(encoders=encoders, encoder=small_encoder)
        image = torch.randn(3, 1, 50, 37)
        source, target, scale = network(image, image)
        torch.testing.assert_close(source.norm(dim=1), torch.ones(3))
        assert (not torch.allclose(source, target)) == other
        assert float(scale.detach()) == pytest.approx(1 / 0.07)
        assert SlicePerception(**network.config()).config() == network.config()
    with torch.no_grad():
        network.log_scale.fill_(9)
    assert float(network.scale.detach()) == pytest.approx(100)


def test_the_structure_network_keeps_mean_and_contrast_free_unless_asked_for() -> None:
    torch.manual_seed(0)
    free = StructureNet(widths=(2, 2, 4, 4, 4)).eval()
    bound = StructureNet(widths=(2, 2, 4, 4, 4), norm_last=True).eval()
    image = torch.randn(1, 1, 40, 30)
    assert free(image).shape == (1, 1, 40, 30)
    assert len([m for m in bound.modules() if isinstance(m, nn.InstanceNorm2d)]) == 1 + len(
        [m for m in free.modules() if isinstance(m, nn.InstanceNorm2d)]
    )
