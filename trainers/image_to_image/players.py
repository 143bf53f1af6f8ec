"""Networks that learn together, each a player with a loss, a learning rate and a gradient clip of its own (ours).

All players are parts of one network. One forward pass of it gives the loss of every player, and in that loss the other
players are constant (:func:`nnunet_uhf.networks.constant.with_constant_weights`). So one backward pass of the sum gives
each player the gradient of its own loss and nothing else, as passes apart would, and all of them share what nnU-Net
has one of: the optimiser, the gradient scaler, DistributedDataParallel, the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from nnunet_uhf.routes.training import CONSTANT, POLYNOMIAL
from nnunet_uhf.trainers.base import SafeCheckpoints, unwrap

GRADIENT_NORM = 12.0  # nnU-Net's clip
EVERYTHING = "network"
"""Name of the only player of a network that has one."""

Schedule = Callable[[int, int], float]


def polynomial(epoch: int, epochs: int) -> float:
    """nnU-Net's schedule: the share of its learning rate with which a player learns in an epoch, 1 to nearly 0."""
    return float((1 - epoch / epochs) ** 0.9)


def constant(_epoch: int, _epochs: int) -> float:
    """The whole learning rate in every epoch (paper)."""
    return 1.0


SCHEDULES: dict[str, Schedule] = {POLYNOMIAL: polynomial, CONSTANT: constant}


@dataclass(frozen=True, kw_only=True)
class Player:
    """A part of the network that minimises a loss of its own.

    Attributes:
        name: of its loss, too.
        parameters: what it moves; no parameter belongs to two players.
        learning_rate: of Adam, before the schedule.
        betas: of Adam.
        weight_decay: of Adam.
        schedule: from the epoch and the number of epochs to a factor of the learning rate.
        clip_norm: largest norm of its gradients, longer ones are shortened; None for gradients as they come.
        clips_apart: whether by the norm of its own gradients, whatever the others' are. Players that do not are
            shortened together by their joint norm, and the one with the long gradients slows the others down.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Schedule = polynomial
    clip_norm: float | None = GRADIENT_NORM
    clips_apart: bool = True


class Outcome(NamedTuple):
    """What a pass of the network gives.

    Attributes:
        losses: the loss of every player, by its name; a scalar each.
        terms: what the log shows by name, scalars.
        image: what the network made: images `(B, 1, *S)`, or what else its trainer judges.
    """

    losses: Mapping[str, Tensor]
    terms: Mapping[str, Tensor]
    image: Tensor


def trainable(network: nn.Module) -> tuple[nn.Parameter, ...]:
    """The parameters of a network that are not frozen."""
    return tuple(parameter for parameter in network.parameters() if parameter.requires_grad)


class PlayerRates:
    """The players' learning rates by epoch: nnU-Net asks its schedule for nothing but :meth:`step`."""

    def __init__(self, optimizer: torch.optim.Optimizer, players: Sequence[Player], epochs: int) -> None:
        self.optimizer = optimizer
        self.players = players
        self.epochs = epochs

    def step(self, epoch: int) -> None:
        """Set the learning rates of an epoch, counted from 0."""
        for group, player in zip(self.optimizer.param_groups, self.players, strict=True):
            group["lr"] = player.learning_rate * player.schedule(epoch, self.epochs)


class TrainsPlayers(SafeCheckpoints):
    """The optimiser of a trainer of one or more players, and the step that moves them.

    A trainer of several says in :meth:`players` which they are and computes a loss for each; there is nothing else to
    override.
    """

    learning_rate: ClassVar[float] = 1e-3  # ours, for nnU-Net's schedule and batches; paper 2e-4 at batch 1
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)  # paper
    schedule: Schedule = staticmethod(polynomial)

    def rate_of(self, player: str) -> float:
        """The learning rate of a player at the start."""
        return self.initial_lr

    def players(self) -> tuple[Player, ...]:
        """Who learns; the log shows the learning rate of the first. One by default: all that is not frozen."""
        everything = trainable(unwrap(self.network))
        return (self.player(EVERYTHING, everything),)

    def player(self, name: str, parameters: tuple[nn.Parameter, ...], **options: Any) -> Player:
        """A player with the trainer's rate and schedule."""
        return Player(
            name=name,
            parameters=parameters,
            learning_rate=self.rate_of(name),
            betas=self.betas,
            schedule=self.schedule,
            **options,
        )

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PlayerRates]:
        """Adam with a group of parameters for each player, and the players' learning rates by epoch.

        Raises:
            ValueError: two players of one name or with a parameter in common, or a parameter that learns and is
                nobody's.
        """
        players = self.players()
        together = trainable(unwrap(self.network))
        _check_complete(players, together)
        groups = [
            {"params": list(p.parameters), "lr": p.learning_rate, "betas": p.betas, "weight_decay": p.weight_decay}
            for p in players
        ]
        optimizer = torch.optim.Adam(groups)

        def by_player(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
            return _split_by_player(state, players, together)

        optimizer.register_load_state_dict_pre_hook(by_player)
        self._learning = players
        return optimizer, PlayerRates(optimizer, players, self.num_epochs)

    def learn(self, losses: Mapping[str, Tensor]) -> None:
        """One step of all players, each down its own loss: nnU-Net's gradient scaling on CUDA, gradients clipped."""
        names = [player.name for player in self._learning]
        if losses.keys() != set(names):
            raise ValueError(f"the losses are of {', '.join(losses)}, the players are {', '.join(names)}")
        total = torch.stack([losses[name].float() for name in names]).sum()
        if self.grad_scaler is None:
            total.backward()
            self._clip_gradients()
            self.optimizer.step()
        else:
            self.grad_scaler.scale(total).backward()
            self.grad_scaler.unscale_(self.optimizer)
            self._clip_gradients()
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()

    def _clip_gradients(self) -> None:
        together: dict[float, list[nn.Parameter]] = {}
        for player in self._learning:
            if player.clip_norm is None:
                continue
            if player.clips_apart:
                nn.utils.clip_grad_norm_(player.parameters, player.clip_norm)
            else:
                together.setdefault(player.clip_norm, []).extend(player.parameters)
        for norm, parameters in together.items():
            nn.utils.clip_grad_norm_(parameters, norm)


def _check_complete(players: Sequence[Player], together: Sequence[nn.Parameter]) -> None:
    names = [player.name for player in players]
    owned = [id(parameter) for player in players for parameter in player.parameters]
    if len(set(names)) < len(names) or len(set(owned)) < len(owned):
        raise ValueError(f"players {', '.join(names)}: each needs a name and parameters of its own")
    if set(owned) != {id(parameter) for parameter in together}:
        raise ValueError(f"players {', '.join(names)} must have all parameters that learn, and none that is frozen")


def _split_by_player(
    state: dict[str, Any], players: Sequence[Player], together: Sequence[nn.Parameter]
) -> dict[str, Any]:
    """The state of an optimiser with one group of all parameters, as version 0.1.0 wrote it, by player.

    Any other state is returned as it is.
    """
    groups = state["param_groups"]
    if len(groups) != 1 or len(players) == 1 or len(groups[0]["params"]) != len(together):
        return state
    place = {id(parameter): index for parameter, index in zip(together, groups[0]["params"], strict=True)}
    split = [{**groups[0], "params": [place[id(parameter)] for parameter in p.parameters]} for p in players]
    return {**state, "param_groups": split}
