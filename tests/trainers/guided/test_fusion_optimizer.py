"""The optimizer of fusions beside that of the backbone: two as one."""

from __future__ import annotations

import copy

import pytest
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn

from nnunet_uhf.trainers.guided.optimizer import DECAY, WithFusions

RATE = 3e-3


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"encoder": nn.Linear(4, 3), "fusions": nn.Linear(3, 3), "decoder": nn.Linear(3, 2)})


def sgd(net: nn.ModuleDict) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), 0.01, weight_decay=3e-5, momentum=0.99, nesterov=True)


def both(net: nn.ModuleDict, rate: float = RATE) -> WithFusions:
    return WithFusions(sgd(net), net["fusions"].parameters(), rate)


def steps(net: nn.ModuleDict, optimizer: torch.optim.Optimizer, seed: int = 0, count: int = 3) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_backbone_steps_as_it_would_alone_and_the_fusions_by_adam() -> None:
    one, alone, adam = network(), network(), network()
    steps(one, both(one))
    steps(alone, sgd(alone))
    steps(adam, torch.optim.Adam(adam.parameters(), RATE))
    assert all(same(one[part], alone[part]) for part in ("encoder", "decoder"))
    assert same(one["fusions"], adam["fusions"])


def test_a_state_is_taken_up_in_the_middle() -> None:
    one = network()
    optimizer = both(one)
    steps(one, optimizer)
    other = copy.deepcopy(one)
    again = both(other)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(one, optimizer, seed=1)
    steps(other, again, seed=1)
    assert same(one, other)


def test_a_state_of_one_optimizer_for_all_goes_on_as_that() -> None:
    one = network()
    optimizer = sgd(one)
    steps(one, optimizer)
    other = copy.deepcopy(one)
    again = both(other)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert again.rate == 0
    steps(one, optimizer, seed=1)
    steps(other, again, seed=1)
    assert same(one, other)
    assert again.state_dict().keys() == optimizer.state_dict().keys()


def test_a_divided_state_is_divided_again_at_the_rate_it_began_with() -> None:
    one = network()
    optimizer = both(one, rate=1e-3)
    steps(one, optimizer)
    for rate in (0.0, RATE):
        other = copy.deepcopy(one)
        again = both(other, rate=rate)
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        again.set_progress(0.5)
        assert again.rate == 1e-3
        assert again.param_groups[-1]["lr"] == pytest.approx(1e-3 * 0.5**DECAY)


def test_the_backbones_schedule_leaves_the_fusions_alone_and_goes_on_after_a_state_is_loaded() -> None:
    net = network()
    backbone = sgd(net)
    schedule = PolyLRScheduler(backbone, 0.01, 10)
    optimizer = WithFusions(backbone, net["fusions"].parameters(), RATE)
    steps(net, optimizer)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    schedule.step(5)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == [pytest.approx(0.01 * 0.5**0.9), RATE]


def test_gradients_are_unscaled_in_both_and_a_step_that_overflows_is_left_out_in_both() -> None:
    net, expected = network(), network()
    optimizer = both(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.zeros(1))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter) * 1024
    scaler.unscale_(optimizer)
    assert all(bool((parameter.grad == 1).all()) for parameter in net.parameters())
    net["decoder"].bias.grad[0] = torch.inf
    scaler.update()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert same(net, expected)


def test_a_closure_is_refused() -> None:
    net = network()
    with pytest.raises(NotImplementedError, match="closure"):
        both(net).step(lambda: 0.0)
