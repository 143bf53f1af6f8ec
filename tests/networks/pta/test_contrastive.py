"""The one-directional contrastive variant: what learns from what, and what its comparison rewards."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nnunet_uhf.networks.pta.contrastive import CUT_WEIGHTS, Compared, CUTNet, cut_losses, place_contrast
from nnunet_uhf.networks.pta.kind import pta_generator
from nnunet_uhf.networks.pta.patch_gan import PatchGAN

RANGES = {"source_range": [-2.0, 2.0], "target_range": [-1.0, 3.0]}


def net(generator: str = "resnet") -> CUTNet:
    torch.manual_seed(0)
    size = {"resnet": {"features": 3, "blocks": 2}, "unet": {"features": 3, "halvings": 4}}[generator]
    width = 3 if generator == "resnet" else 6
    head = {"generator": generator, "features": width, "target_range": RANGES["target_range"]}
    forwards = pta_generator(generator, {"source_range": RANGES["source_range"], **size}, head)
    return CUTNet(forwards, PatchGAN(judge_features=2), width=8)


def scans() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 2, 1, 34, 38, generator=torch.Generator().manual_seed(1)).unbind(0)  # type: ignore[return-value]


def test_each_player_learns_from_its_own_loss_and_every_head_is_used() -> None:
    network = net()
    output = network(*scans())
    assert output.made_target.shape == (2, 1, 34, 38)
    assert [len(part.made) for part in (output.translated, output.same)] == [5, 5]
    generator, judge = cut_losses(output, weights=CUT_WEIGHTS)
    players = [network.generators(), network.judges()]
    for loss, own, other in zip(
        (sum(generator.values()), sum(judge.values())), players, reversed(players), strict=True
    ):
        for parts, expected in ((own, True), (other, False)):
            parameters = [p for part in parts for p in part.parameters()]
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            felt = [g is not None and bool(g.any()) for g in found]
            assert all(felt) == expected == any(felt)


def test_a_place_is_found_again_where_it_lies_and_not_where_the_image_was_moved() -> None:
    vectors = F.normalize(torch.randn(1, 30, 16, generator=torch.Generator().manual_seed(0)), dim=2)
    right = place_contrast(Compared(made=[vectors], given=[vectors]))
    wrong = place_contrast(Compared(made=[vectors.roll(1, dims=1)], given=[vectors]))
    assert float(right) < 0.1 < 5 < float(wrong)
    torch.testing.assert_close(
        place_contrast(Compared(made=[torch.zeros(1, 30, 16)], given=[vectors])), torch.tensor(30.0).log()
    )


def test_what_is_compared_of_the_input_is_constant() -> None:
    output = net()(*scans())
    assert not any(part.requires_grad for part in output.translated.given)
    assert all(part.requires_grad for part in output.translated.made)


def test_the_image_alone_is_that_of_the_generator_and_only_resnet_can_be_compared() -> None:
    network, (source, _) = net().eval(), scans()
    with torch.no_grad():
        image = network(source)
    assert image.shape == source.shape
    low, high = RANGES["target_range"]
    assert low <= float(image.min()) < float(image.max()) <= high
    with pytest.raises(ValueError, match="resnet alone"):
        net("unet")
