"""One pass of PTA: who learns from what, and the faults of the original that are not repeated."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from nnunet_uhf.networks.pta.generators import to_unit
from nnunet_uhf.networks.pta.image_pool import ImagePool
from nnunet_uhf.networks.pta.kind import GENERATORS, pta_generator
from nnunet_uhf.networks.pta.losses import (
    PTA_PRESETS,
    SMOOTHED,
    JudgeLabels,
    generator_losses,
    gradient_distance,
    judge_losses,
    token_mask,
)
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.networks.pta.structure_net import StructureNet
from nnunet_uhf.networks.pta.training import PTANet

SMALL: dict[str, dict[str, Any]] = {
    "resnet": {"features": 3, "blocks": 1},
    "unet": {"features": 3, "halvings": 4},
    "hybrid": {"features": 2, "width": 12, "heads": 3, "patch_size": [32, 32]},
}
RANGES = {"source": [-2.0, 2.0], "target": [-1.0, 3.0]}


def net(preset: str = "code", generator: str = "resnet", *, slices: int = 1, **options: Any) -> PTANet:
    torch.manual_seed(3)
    plan = PTA_PRESETS[preset]

    def one(source: str, target: str, channels: int) -> Any:
        trunk = {"source_range": RANGES[source], "in_channels": channels, **SMALL[generator]}
        width = trunk["features"] * (2 if generator == "unet" else 1)
        head = {"generator": generator, "features": width, "target_range": RANGES[target]}
        return pta_generator(generator, trunk, head)

    options = {"identity": bool(plan.weights["identity"]), **options}
    return PTANet(
        one("source", "target", slices),
        one("target", "source", 1),
        PatchGAN(in_channels=2 if plan.beside else 1, judge_features=2),
        PatchGAN(judge_features=2),
        StructureNet(widths=(2, 2, 2, 2, 4)),
        **options,
    )


def scans(slices: int = 1, batch: int = 3, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, batch, slices, size, size, generator=generator).unbind(0)  # type: ignore[return-value]


def gradients(network: PTANet, source: torch.Tensor, target: torch.Tensor, preset: str) -> torch.Tensor:
    torch.manual_seed(0)  # of the corruption
    losses = generator_losses(network(source, target), weights=PTA_PRESETS[preset].weights)
    total = torch.stack(list(losses.values())).sum()
    parts = [p for part in network.generators() for p in part.parameters()]
    found = torch.autograd.grad(total, parts, allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def test_losses_of_the_code_ignore_the_order_of_high_field_slices_and_those_of_the_paper_do_not() -> None:
    source, target = (image.double() for image in scans())
    order = [2, 0, 1]
    changes = {}
    for preset in PTA_PRESETS:
        network = net(preset, structure_in_generator=False).double()
        one, other = gradients(network, source, target, preset), gradients(network, source, target[order], preset)
        changes[preset] = float((one - other).abs().max() / one.abs().max())
    assert changes["code"] < 1e-10
    assert changes["paper"] > 1e-3


@pytest.mark.parametrize("preset", PTA_PRESETS)
def test_a_preset_is_what_is_written_of_it(preset: str) -> None:
    network, (source, target) = net(preset).double(), (image.double() for image in scans())
    torch.manual_seed(1)
    output = network(source, target)
    x, y = to_unit(source, RANGES["source"]), to_unit(target, RANGES["target"])

    def square(score: torch.Tensor, label: float) -> torch.Tensor:
        return ((score - label) ** 2).mean()

    s = output.scores
    adversarial = square(s["target"].deceived, 1) + square(s["source"].deceived, 1)
    cycle = F.l1_loss(output.cycle_source, x) + F.l1_loss(output.cycle_target, y)
    if preset == "code":
        identity = F.l1_loss(output.same_source, x) + F.l1_loss(output.same_target, y)
        expected = adversarial + 10 * cycle + 5 * identity + square(s["structure"].deceived, 1)
    else:
        expected = 0.5 * F.l1_loss(output.made_target, y) + 0.2 * cycle + 0.3 * adversarial
        assert "structure" not in s
    weights = PTA_PRESETS[preset].weights
    total = sum(generator_losses(output, weights=weights).values())
    assert float(total) == pytest.approx(float(expected.detach()), abs=1e-6)
    judged = sum(judge_losses(output, weights=weights).values())
    by_hand = sum(0.5 * (square(score.real, 1) + square(score.fake, 0)) for score in s.values())
    assert float(judged) == pytest.approx(float(by_hand), abs=1e-6)


@pytest.mark.parametrize("reaches", [True, False])
def test_the_structure_term_reaches_the_generator_and_leaves_the_structure_network_alone(reaches: bool) -> None:
    network, (source, target) = net(structure_in_generator=reaches), scans()
    network.train()
    before = deepcopy(network.structure.state_dict())
    assert not network.structure.training
    output = network(source, target)
    weights = dict.fromkeys(PTA_PRESETS["code"].weights, 0.0) | {"structure": 1.0, "judge": 0.5}
    terms = {**generator_losses(output, weights=weights), **judge_losses(output, weights=weights)}
    assert ("adversarial_structure" in terms) == reaches
    torch.stack(list(terms.values())).sum().backward()
    felt = any(p.grad is not None and bool(p.grad.any()) for p in network.keeper.parameters())
    assert felt == reaches
    assert all(p.grad is None for p in network.structure.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.structure.state_dict().items())


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("slices", [1, 3])
def test_each_player_gets_the_gradient_of_its_own_loss(generator: str, slices: int) -> None:
    network, (source, target) = net("code", generator, slices=slices), scans(slices)
    labels = SMOOTHED if generator == "hybrid" else JudgeLabels()
    masks = dict.fromkeys(("source", "target"), torch.ones(3, 1, 32, 32))
    output = network(source, target)
    assert output.made_target.shape == output.cycle_source.shape == (3, 1, 32, 32)
    weights = PTA_PRESETS["code"].weights
    terms = generator_losses(output, weights=weights, labels=labels, masks=masks)
    assert (generator == "hybrid") == ("foreground_source" in terms)
    losses = [sum(terms.values()), sum(judge_losses(output, weights=weights, labels=labels).values())]
    players = [network.generators(), network.judges()]
    for loss, own, others in zip(losses, players, reversed(players), strict=True):
        for parts, expected in ((own, True), (others, False)):
            parameters = [p for part in parts for p in part.parameters()]
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            assert any(g is not None and bool(g.any()) for g in found) == expected


def test_without_a_target_it_translates_z_scores_into_z_scores() -> None:
    network, (source, _) = net().eval(), scans()
    image = network(10 * source)
    assert image.shape == source.shape
    low, high = RANGES["target"]
    assert low <= float(image.min()) < float(image.max()) <= high
    assert network.keeper.config()["source_range"] == RANGES["source"]


def test_the_judge_sees_earlier_images_in_the_place_of_some_and_the_generator_none() -> None:
    network, (source, target) = net(), scans()
    pool = ImagePool(size=2, probability=1.0)
    plain = network(source, target)
    for _ in range(2):
        drawn = pool.draw(3, (1, 32, 32), torch.device("cpu"))
        pool.store(torch.zeros(3, 1, 32, 32))
    drawn = pool.draw(3, (1, 32, 32), torch.device("cpu"))
    assert drawn.replaces.all()
    output = network(source, target, drawn)
    assert not torch.allclose(output.scores["target"].fake, plain.scores["target"].fake)
    assert torch.equal(output.scores["target"].deceived, plain.scores["target"].deceived)
    assert torch.equal(output.scores["source"].fake, plain.scores["source"].fake)


def test_a_pool_fills_first_and_then_exchanges_half_of_the_images() -> None:
    torch.manual_seed(0)
    pool, shape, device = ImagePool(size=4), (1, 2, 2), torch.device("cpu")
    for step in range(2):
        assert not pool.draw(2, shape, device).replaces.any()
        pool.store(torch.full((2, *shape), float(step)))
    assert [int(image.mean()) for image in pool.images] == [0, 0, 1, 1]
    replaced, made = 0, torch.full((2, *shape), 9.0)
    for _ in range(200):
        drawn = pool.draw(2, shape, device)
        replaced += int(drawn.replaces.sum())
        mixed = drawn.mixed(made.requires_grad_())
        assert not mixed.requires_grad
        pool.store(made)
    assert 150 < replaced < 250
    assert all(float(image.detach().mean()) == 9 for image in pool.images)


def test_edges_must_lie_where_the_other_image_has_them_whatever_their_contrast() -> None:
    torch.manual_seed(0)
    image = 10 * F.avg_pool2d(torch.randn(2, 1, 40, 40), 5, stride=1, padding=2)
    same, inverted = gradient_distance(image, image), gradient_distance(1 - 2 * image, image)
    moved = gradient_distance(image.roll(4, dims=3), image)
    assert float(same) < 0.1 > float(inverted)
    assert float(moved) > 0.3


def test_a_token_is_foreground_where_any_of_its_pixels_is() -> None:
    mask = torch.zeros(1, 1, 33, 20)
    mask[..., 32, 19] = 1
    assert token_mask(mask, (3, 2))[0, 0].tolist() == [[0, 0], [0, 0], [0, 1]]
