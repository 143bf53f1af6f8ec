"""An optimizer for the fusions beside that of the backbone (ours).

nnU-Net's SGD hardly moves fusions that start from zero, since their gradient is small beside the backbone's. They learn
by Adam at a rate of their own; the backbone keeps its optimizer and schedule, whichever its trainer chose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import nn
from torch.optim import Adam, Optimizer

FUSIONS = "fusions"
"""Entry of the state of the fusions' optimizer."""
DECAY = 0.9
"""Exponent of the fusions' schedule: nnU-Net's, whatever the backbone's is."""


class WithFusions(Optimizer):
    """Two optimizers as one: a trainer, its gradient scaler and its checkpoints see a single one.

    The parameter groups are the backbone's and behind them the fusions'. A scheduler made for the backbone's optimizer
    goes on to drive that alone. A state without a part for the fusions, such as version 0.1.0 wrote, brings them back
    to the backbone's optimizer: a training goes on as it began.

    Args:
        backbone: as the trainer made it, for all trained parameters.
        fusions: those that learn at a rate of their own, as far as they are among these.
        rate: Adam's learning rate at the start; 0 leaves them to the backbone's optimizer.
    """

    def __init__(self, backbone: Optimizer, fusions: Iterable[nn.Parameter], rate: float) -> None:
        self.backbone = backbone
        self._whole = [list(group["params"]) for group in backbone.param_groups]
        trained = {id(parameter) for group in self._whole for parameter in group}
        self._fusions = [parameter for parameter in fusions if id(parameter) in trained]
        self.own: Adam | None = None
        super().__init__(backbone.param_groups, {})
        if rate > 0 and self._fusions:
            self._divide(rate)

    @property
    def rate(self) -> float:
        """The fusions' learning rate at the start; 0 where the backbone's optimizer trains them."""
        return 0.0 if self.own is None else float(self.own.param_groups[0]["rate"])

    def set_progress(self, done: float) -> None:
        """Let the fusions' rate decay; ``done`` is the part of the training that is over, from 0 to 1."""
        if self.own is not None:
            for group in self.own.param_groups:
                group["lr"] = group["rate"] * (1 - done) ** DECAY

    def take_over(self, other: WithFusions) -> None:
        """Let the fusions go on as in another of these, whose backbone is trained anew."""
        if other.own is not None:
            self._divide(other.rate)
            self._own.load_state_dict(other.own.state_dict())
            self._gather()

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of both; only without closure, as nnU-Net calls it."""
        if closure is not None:
            raise NotImplementedError("two optimizers cannot share a closure: each would run it")
        self.backbone.step()
        if self.own is not None:
            self.own.step()
        return None

    def state_dict(self) -> dict[str, Any]:
        """The backbone's, with the fusions' in it."""
        own = {} if self.own is None else {FUSIONS: self.own.state_dict()}
        return {**self.backbone.state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, divided as that is."""
        state = dict(state_dict)
        own = state.pop(FUSIONS, None)
        if own is None:
            self._reunite()
        else:
            self._divide(float(own["param_groups"][0]["rate"]))
            self._own.load_state_dict(own)
        self.backbone.load_state_dict(state)
        self._gather()

    @property
    def _own(self) -> Adam:
        if self.own is None:
            raise RuntimeError("the fusions have no optimizer of their own")
        return self.own

    def _divide(self, rate: float) -> None:
        chosen = {id(parameter) for parameter in self._fusions}
        for group, whole in zip(self.backbone.param_groups, self._whole, strict=True):
            group["params"] = [parameter for parameter in whole if id(parameter) not in chosen]
        self.own = Adam([{"params": self._fusions, "rate": rate}], lr=rate)
        self._gather()

    def _reunite(self) -> None:
        for group, whole in zip(self.backbone.param_groups, self._whole, strict=True):
            group["params"] = list(whole)
        self.own = None
        self._gather()

    def _gather(self) -> None:
        """The groups may be new objects: each optimizer makes its own when it loads a state."""
        self.param_groups = [*self.backbone.param_groups, *([] if self.own is None else self.own.param_groups)]
