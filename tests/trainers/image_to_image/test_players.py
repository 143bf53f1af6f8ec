"""Several networks that learn together, under nnU-Net's one optimiser."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.support import fit, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.constant import with_constant_weights
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.losses import discriminator_loss, distillation_loss
from nnunet_uhf.networks.distillation.teacher import UHFTeacher
from nnunet_uhf.networks.distillation.training import DistillationNet
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer
from nnunet_uhf.trainers.image_to_image.dataset_channels import DatasetChannels
from nnunet_uhf.trainers.image_to_image.pair_source import Pair
from nnunet_uhf.trainers.image_to_image.players import EVERYTHING, Outcome, Player, TrainsPlayers, trainable
from nnunet_uhf.trainers.image_to_image.trainer import ImageToImageTrainer


class Forger(nn.Module):
    """A generator and its judge, of one convolution each."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Conv2d(1, 1, 3, padding=1)
        self.judge = nn.Conv2d(1, 1, 4, stride=4)

    def forward(self, source: Tensor, target: Tensor | None = None) -> Any:
        """The image; with a target also the judge's scores of the target, of the image, and for the generator."""
        image = self.generator(source)
        if target is None:
            return image
        return image, self.judge(target), self.judge(image.detach()), with_constant_weights(self.judge, image)


class ForgerTrainer(ImageToImageTrainer):
    """An adversarial method as short as it can be: who plays, and for what."""

    role = "keeper"

    def describe_networks(self, *_: Any, **__: Any) -> NetworksEntry:
        return NetworksEntry(architecture=KnowledgeKeeper(dim=2, base_features=4).config())  # a block has to be whole

    def keeper_to_be(self, *_: Any, **__: Any) -> None:
        return None

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:  # noqa: ARG004
        return Forger()

    def players(self) -> tuple[Player, ...]:
        return (
            Player(name="generator", parameters=trainable(self.network.generator), learning_rate=1e-2, clip_norm=1e-3),
            Player(name="judge", parameters=trainable(self.network.judge), learning_rate=1e-3, clip_norm=1e3),
        )

    def compute(self, pair: Pair) -> Outcome:
        image, real, fake, deceived = self.network(pair.source, pair.target)
        losses = {
            "generator": F.softplus(-deceived).mean() + F.l1_loss(image, pair.target),
            "judge": F.softplus(-real).mean() + F.softplus(fake).mean(),
        }
        return Outcome(losses=losses, terms=losses, image=image)


def seated(kind: type[TrainsPlayers], network: nn.Module, **attributes: Any) -> Any:
    """A trainer of a network with its optimiser, without nnU-Net's folders."""
    trainer: Any = kind.__new__(kind)
    trainer.network, trainer.initial_lr, trainer.num_epochs = network, 1e-2, 10
    trainer.grad_scaler, trainer.device = None, torch.device("cpu")
    trainer.pairs = DatasetChannels([0], 1)
    vars(trainer).update(attributes)
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    return trainer


@pytest.fixture
def forger() -> Any:
    torch.manual_seed(0)
    return seated(ForgerTrainer, Forger())


def images() -> Pair:
    generator = torch.Generator().manual_seed(1)
    source, target = torch.randn(2, 4, 1, 16, 16, generator=generator).unbind(0)
    return Pair(source=source, target=target)


def norm_of(parameters: Any) -> float:
    return float(torch.stack([p.grad.norm() for p in parameters]).norm())


def distillation_net() -> DistillationNet:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"dim": 2, "in_channels": 1, "base_features": 4}
    judge = PatchDiscriminator(dim=2, base_features=4)
    return DistillationNet(KnowledgeKeeper(**sizes), UHFTeacher(**sizes), judge)


def test_an_adversarial_method_says_who_plays_and_for_what_and_trains(nnunet: Workspace) -> None:
    assert not {"train_step", "configure_optimizers", "learn"} & set(vars(ForgerTrainer))
    made = tiny_trainer(ForgerTrainer, nnunet.dataset("pairs"), "2d")
    made.initialize()
    before = deepcopy(made.network.state_dict())
    trained = fit(made)
    after = trained.network.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in before)
    log = trained.logger.local_logger.my_fantastic_logging
    assert set(log["train_terms"][0]) == {"generator", "judge"}
    assert log["train_losses"][0] == pytest.approx(sum(log["train_terms"][0].values()))
    assert log["lrs"] == [1e-2]  # of the first player


def test_each_player_has_the_gradient_of_its_own_loss_alone(forger: Any) -> None:
    for player in forger._learning:
        outcome = forger.compute(images())
        for other in forger._learning:
            loss = outcome.losses[player.name]
            gradients = torch.autograd.grad(loss, other.parameters, retain_graph=True, allow_unused=True)
            assert all((gradient is None) == (other is not player) for gradient in gradients)
    outcome = forger.compute(images())
    generator, judge = forger._learning
    own = torch.autograd.grad(outcome.losses["judge"], judge.parameters, retain_graph=True)
    forger.learn(outcome.losses)
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(judge.parameters, own, strict=True))
    assert all(parameter.grad.any() for parameter in generator.parameters)


def test_each_player_is_clipped_by_its_own_gradients(forger: Any) -> None:
    generator, judge = forger._learning
    outcome = forger.compute(images())
    own = torch.autograd.grad(outcome.losses["judge"], judge.parameters, retain_graph=True)
    forger.learn(outcome.losses)
    assert norm_of(generator.parameters) == pytest.approx(1e-3, rel=1e-3)
    assert norm_of(judge.parameters) == pytest.approx(float(torch.cat([g.flatten() for g in own]).norm()))


def test_players_that_are_clipped_together_share_one_norm_and_one_may_go_unclipped() -> None:
    class Together(ForgerTrainer):
        def players(self) -> tuple[Player, ...]:
            parts = {"generator": self.network.generator, "judge": self.network.judge}
            options: dict[str, Any] = {"learning_rate": 1e-2, "clip_norm": clip, "clips_apart": False}
            return tuple(Player(name=n, parameters=trainable(part), **options) for n, part in parts.items())

    for clip in (1e-3, None):
        trainer = seated(Together, Forger())
        outcome = trainer.compute(images())
        free = torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(
                    sum(outcome.losses.values()), trainable(trainer.network), retain_graph=True
                )
            ]
        )
        trainer.learn(outcome.losses)
        assert norm_of(trainer.network.parameters()) == pytest.approx(clip or float(free.norm()), rel=1e-3)


def test_one_optimiser_moves_the_players_as_optimisers_of_their_own_would(forger: Any) -> None:
    apart = deepcopy(forger.network)
    parts = {"generator": apart.generator, "judge": apart.judge}
    optimisers = {
        player.name: torch.optim.Adam(parts[player.name].parameters(), player.learning_rate, betas=player.betas)
        for player in forger._learning
    }
    for _ in range(3):
        forger.optimizer.zero_grad(set_to_none=True)
        forger.learn(forger.compute(images()).losses)
        alone = seated(ForgerTrainer, apart)
        losses = alone.compute(images()).losses
        gradients = {n: torch.autograd.grad(losses[n], list(parts[n].parameters()), retain_graph=True) for n in parts}
        for player in forger._learning:
            for parameter, gradient in zip(parts[player.name].parameters(), gradients[player.name], strict=True):
                parameter.grad = gradient
            nn.utils.clip_grad_norm_(parts[player.name].parameters(), player.clip_norm)
            optimisers[player.name].step()
    for name, value in apart.state_dict().items():
        torch.testing.assert_close(forger.network.state_dict()[name], value, atol=1e-7, rtol=1e-6)


def test_a_step_of_the_keeper_is_one_adam_over_both_networks_each_clipped_by_its_own_norm() -> None:
    trainer = seated(UHFKeeperTrainer, distillation_net())
    reference = deepcopy(trainer.network)
    adam = torch.optim.Adam([p for p in reference.parameters() if p.requires_grad], 1e-2, betas=(0.9, 0.999))
    for seed in range(3):
        data = 5 * torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(seed))
        trainer.train_step({"data": data})
        adam.zero_grad(set_to_none=True)
        output = reference(data[:, :1], data[:, 1:])
        torch.stack(
            [*distillation_loss(output, data[:, 1:]).values(), *discriminator_loss(output).values()]
        ).sum().backward()
        assert nn.utils.clip_grad_norm_(reference.keeper.parameters(), 12.0) > 12
        nn.utils.clip_grad_norm_(reference.discriminator.parameters(), 12.0)
        adam.step()
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(trainer.network.state_dict()[name], value, atol=1e-6, rtol=0)


def test_clipped_together_as_in_version_0_1_0_the_keeper_shortens_the_gradients_of_the_discriminator() -> None:
    class ClippedTogether(UHFKeeperTrainer):
        clips_apart = False

    data = 5 * torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    norms = []
    for kind in (ClippedTogether, UHFKeeperTrainer):
        trainer = seated(kind, distillation_net())
        trainer.train_step({"data": data})
        norms.append([norm_of(player.parameters) for player in trainer._learning])
    (_, judge), (keeper, judge_apart) = norms
    assert keeper == pytest.approx(12, rel=1e-3)
    assert judge < judge_apart / 5
    assert judge_apart < 12  # the keeper's long gradients no longer shorten the discriminator's


def test_gradient_scaling_leaves_the_step_as_it_is_and_skips_all_players_after_an_overflow() -> None:
    torch.manual_seed(0)
    plain = seated(ForgerTrainer, Forger())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaled = seated(ForgerTrainer, deepcopy(plain.network), grad_scaler=scaler)
    for trainer in (plain, scaled):
        trainer.learn(trainer.compute(images()).losses)
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(scaled.network.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    before = deepcopy(scaled.network.state_dict())
    losses = scaled.compute(images()).losses
    scaled.learn({**losses, "judge": losses["judge"] * float("inf")})
    assert all(torch.equal(value, before[name]) for name, value in scaled.network.state_dict().items())
    assert scaler.get_scale() == 2.0**9


def test_every_player_follows_its_own_schedule() -> None:
    class Halving(ForgerTrainer):
        def players(self) -> tuple[Player, ...]:
            generator, judge = super().players()
            slow = Player(
                name="judge", parameters=judge.parameters, learning_rate=1e-3, schedule=lambda epoch, _: 0.5**epoch
            )
            return generator, slow

    trainer = seated(Halving, Forger())
    for epoch in (0, 5):
        trainer.lr_scheduler.step(epoch)
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        assert rates == pytest.approx([1e-2 * (1 - epoch / 10) ** 0.9, 1e-3 * 0.5**epoch])


def test_an_optimiser_of_one_group_goes_on_player_by_player() -> None:
    trainer = seated(UHFKeeperTrainer, distillation_net())
    names = [name for name, p in trainer.network.named_parameters() if p.requires_grad]
    before = deepcopy(trainer.network)
    old = torch.optim.Adam([p for p in before.parameters() if p.requires_grad], 1e-3)
    for parameter in old.param_groups[0]["params"]:
        parameter.grad = torch.randn_like(parameter)
    old.step()
    trainer.optimizer.load_state_dict(deepcopy(old.state_dict()))
    assert [len(group["params"]) for group in trainer.optimizer.param_groups] == [
        sum(name.startswith(part) for name in names) for part in ("keeper.", "discriminator.")
    ]
    present = dict(trainer.network.named_parameters())
    for name, parameter in zip(names, old.param_groups[0]["params"], strict=True):
        for key, value in old.state[parameter].items():
            assert torch.equal(trainer.optimizer.state[present[name]][key], value)
    again = trainer.optimizer.state_dict()
    trainer.optimizer.load_state_dict(again)  # of several groups: as it is


def test_a_network_of_one_player_needs_to_say_nothing() -> None:
    trainer = seated(TrainsPlayers, nn.Linear(2, 1))
    (player,) = trainer._learning
    assert player.name == EVERYTHING
    assert player.parameters == tuple(trainer.network.parameters())


@pytest.mark.parametrize(
    ("players", "message"),
    [
        (["generator"], "all parameters that learn"),
        (["generator", "judge", "judge"], "a name and parameters of its own"),
    ],
)
def test_players_have_all_that_learns_and_nothing_in_common(players: list[str], message: str) -> None:
    class Wrong(ForgerTrainer):
        def players(self) -> tuple[Player, ...]:
            return tuple(
                Player(name=str(n), parameters=trainable(getattr(self.network, part)), learning_rate=1e-2)
                for n, part in enumerate(players)
            )

    with pytest.raises(ValueError, match=message):
        seated(Wrong, Forger())


def test_a_loss_without_a_player_is_an_error(forger: Any) -> None:
    losses = forger.compute(images()).losses
    with pytest.raises(ValueError, match="the losses are of critic, the players are generator, judge"):
        forger.learn({"critic": losses["judge"]})
