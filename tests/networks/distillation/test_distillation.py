"""Keeper, frozen teacher and discriminator together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.network_contract import StridedContract
from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.losses import discriminator_loss, distillation_loss
from nnunet_uhf.networks.distillation.teacher import TeacherDecoder, UHFTeacher
from nnunet_uhf.networks.distillation.training import DistillationNet


def make_net(dim: int, *, adversarial: bool = True, strides: Any = None) -> DistillationNet:
    keeper = KnowledgeKeeper(dim=dim, base_features=4, strides=strides)
    teacher = UHFTeacher(dim=dim, base_features=4, strides=strides)
    return DistillationNet(keeper, teacher, PatchDiscriminator(dim=dim, base_features=4) if adversarial else None)


class TestDistillationNet(StridedContract):
    def make(self, dim: int, **options: Any) -> nn.Module:
        return make_net(dim, **options)

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 1, *size)

    def train_output(self, network: nn.Module, inputs: tuple[Any, ...]) -> Any:
        return network(*inputs, torch.randn_like(inputs[0]))

    def rebuild(self, network: Any) -> nn.Module:
        return make_net(network.keeper.dim, strides=network.keeper.steps)


class TestEnhancementNet(StridedContract):
    def make(self, dim: int, **options: Any) -> nn.Module:
        keeper = KnowledgeKeeper(dim=dim, base_features=4, **options)
        return EnhancementNet(keeper, TeacherDecoder(dim=dim, base_features=4))

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 1, *size)

    def rebuild(self, network: Any) -> nn.Module:
        keeper = KnowledgeKeeper(**network.keeper.config())
        return EnhancementNet(keeper, TeacherDecoder(**network.decoder.config()))


def gradients(module: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in module.parameters()]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 1, 32, 32), torch.randn(2, 1, 32, 32)


def test_the_whole_training_pass_compiles_as_one_graph(pair: tuple[Tensor, Tensor]) -> None:
    torch.compiler.reset()
    output = torch.compile(make_net(2), backend="eager", fullgraph=True)(*pair)
    assert output.generator_score is not None


def test_the_teacher_stays_frozen_and_in_eval_mode() -> None:
    net = make_net(2).train()
    assert not any(module.training for module in net.teacher.modules())
    assert not any(p.requires_grad for p in net.teacher.parameters())
    assert net.keeper.training


def test_the_generator_score_trains_the_keeper_and_not_the_discriminator(pair: tuple[Tensor, Tensor]) -> None:
    net = make_net(2)
    net(*pair).generator_score.sum().backward()
    assert all(g is None for g in gradients(net.discriminator))
    assert any(g is not None and g.any() for g in gradients(net.keeper))


def test_real_and_fake_scores_train_the_discriminator_and_not_the_keeper(pair: tuple[Tensor, Tensor]) -> None:
    net = make_net(2)
    output = net(*pair)
    (output.real_score.sum() - 2 * output.fake_score.sum()).backward()
    assert all(g is None for g in gradients(net.keeper))
    assert all(g is not None for g in gradients(net.discriminator))


def test_one_backward_pass_of_both_losses_equals_the_two_players_apart(pair: tuple[Tensor, Tensor]) -> None:
    net = make_net(2)

    def collect(*names: str) -> dict[str, Tensor]:
        net.zero_grad()
        output = net(*pair)
        losses = {"keeper": distillation_loss(output, pair[1]), "discriminator": discriminator_loss(output)}
        sum(sum(losses[name].values()) for name in names).backward()
        return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    together = collect("keeper", "discriminator")
    apart = {**collect("keeper"), **collect("discriminator")}
    assert together.keys() == apart.keys()
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, apart[name], atol=1e-6, rtol=1e-5)


def test_both_scores_of_the_fake_are_the_same_numbers(pair: tuple[Tensor, Tensor]) -> None:
    output = make_net(2)(*pair)
    torch.testing.assert_close(output.generator_score, output.fake_score)


def test_the_adversarial_term_can_be_left_out(pair: tuple[Tensor, Tensor]) -> None:
    output = make_net(2, adversarial=False)(*pair)
    assert output.real_score is None
    assert "adversarial" not in distillation_loss(output, pair[1])
    assert discriminator_loss(output) == {}


def test_targets_are_the_teachers_clean_maps(pair: tuple[Tensor, Tensor]) -> None:
    net = make_net(2).train()
    for found, expected in zip(net(*pair).targets, net.teacher.encode(pair[1]), strict=True):
        assert torch.equal(found, expected)
        assert not found.requires_grad


def test_enhancement_gives_the_image_that_training_saw(pair: tuple[Tensor, Tensor]) -> None:
    net = make_net(2).eval()
    enhancer = EnhancementNet(net.keeper, net.teacher.decoder)
    assert torch.equal(enhancer(pair[0]), net(pair[0]))


def test_a_teacher_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="keeper and teacher differ"):
        DistillationNet(KnowledgeKeeper(dim=2, base_features=4), UHFTeacher(dim=2, base_features=8))
