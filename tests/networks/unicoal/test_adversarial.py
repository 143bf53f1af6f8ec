from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from helpers.unicoal_samples import asked, made_discriminator, made_generator
from nnunet_uhf.networks.unicoal.adversarial import (
    BLURRED_IMAGES,
    R1,
    AdversarialNet,
    blurred,
    finite_gradients,
)


def made_net(*, judged: bool = True) -> AdversarialNet:
    torch.manual_seed(0)
    net = AdversarialNet(made_generator(dropout=0.0), made_discriminator() if judged else None)
    net.seen.fill_(BLURRED_IMAGES)
    return net


def batch(size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, size, size, generator=made), torch.randn(2, 1, size, size, generator=made)


def test_one_pass_gives_each_player_the_gradient_of_a_pass_of_its_own() -> None:
    net, (source, target), question = made_net(), batch(), asked([0.2, 0.7])
    terms, _ = net(source, target, question)
    (terms["adversarial"] + terms["l1"] + terms["fake"] + terms["real"] + terms["r1"]).backward()
    together = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()

    judge = net.discriminator
    assert judge is not None
    image = net.generator(source, question)
    logits = judge(torch.cat([source, image], 1), question.condition)
    loss = F.softplus(-logits).mean() + F.l1_loss(image, target)
    own = torch.autograd.grad(loss, list(net.generator.parameters()))
    for (name, _), gradient in zip(net.generator.named_parameters(), own, strict=True):
        torch.testing.assert_close(together[f"generator.{name}"], gradient, atol=1e-6, rtol=1e-4)

    real = torch.cat([source, target], 1).requires_grad_()
    logits = judge(real, question.condition)
    (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    loss = F.softplus(-logits).mean() + R1 * slope.square().sum(dim=(1, 2, 3)).mean()
    loss = loss + F.softplus(judge(torch.cat([source, image.detach()], 1), question.condition)).mean()
    own = torch.autograd.grad(loss, list(judge.parameters()), allow_unused=True)
    for (name, _), gradient in zip(judge.named_parameters(), own, strict=True):
        torch.testing.assert_close(together[f"discriminator.{name}"], gradient, atol=1e-6, rtol=1e-4)
    assert not any(name.startswith("average.") for name in together)


def test_a_neighbour_is_held_against_the_next_slice() -> None:
    net, (source, target), question = made_net(judged=False), batch(), asked([0.2, 0.7])
    same = torch.cat([target, target], dim=1)
    terms, _ = net(source, same, question, question)
    assert terms.keys() == {"l1", "consistency"}
    assert float(terms["consistency"].detach()) == pytest.approx(0, abs=1e-6)
    terms, _ = net(source, same, question, asked([0.9, 0.1]))
    assert float(terms["consistency"].detach()) > 0.01


def test_the_average_follows_and_leaves_its_start_behind_in_a_short_training() -> None:
    net = made_net(judged=False)
    net.seen.zero_()
    start = [p.clone() for p in net.average.parameters()]
    with torch.no_grad():
        for p in net.generator.parameters():
            p.add_(1)
    for _ in range(50):
        net.follow(4)
    for before, mean in zip(start, net.average.parameters(), strict=True):
        torch.testing.assert_close(mean, before + 1, atol=1e-3, rtol=0)
    assert int(net.seen) == 200
    assert net.train().average.training is False


def test_the_blur_fades_with_the_images_seen() -> None:
    net = made_net()
    assert net.blur() == 0
    net.seen.fill_(BLURRED_IMAGES // 2)
    assert net.blur() == 5
    image = torch.ones(1, 1, 20, 20)
    torch.testing.assert_close(blurred(image, 3.0), image)
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = blurred(point, 5.0)
    assert float(spread[..., 20, 25] / spread[..., 20, 20]) == pytest.approx(0.5, abs=1e-4)


def test_gradients_that_are_no_numbers_are_replaced() -> None:
    layer = torch.nn.Linear(3, 1)
    layer.weight.grad = torch.tensor([[float("nan"), float("inf"), 2.0]])
    finite_gradients(layer)
    assert layer.weight.grad.tolist() == [[0, 1e5, 2]]


def test_the_judge_is_not_asked_for_slopes_without_gradients() -> None:
    net, (source, target) = made_net(), batch()
    with torch.no_grad():
        terms, image = net(source, target, asked([0.2, 0.7]))
    assert float(terms["r1"]) == 0
    assert image.shape == (2, 1, 32, 32)
