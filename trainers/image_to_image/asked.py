"""Learning rates, schedule, weights of losses and gradient clip as dataset.json asks for them (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from nnunet_uhf.routes.task import Task
from nnunet_uhf.routes.training import POLYNOMIAL, TrainingWishes
from nnunet_uhf.trainers.image_to_image.players import EVERYTHING, SCHEDULES, Player, TrainsPlayers


class TrainsAsAsked(TrainsPlayers):
    """Players whose rates, schedule and clip, and losses whose weights, dataset.json may set (`uhf.training`).

    A trainer says what it has of its own; the log and the `uhf` block say what was taken.
    """

    learners: ClassVar[tuple[str, ...]] = ("keeper",)
    """Names of its networks in `learning_rate`; the first is that of the only player of a network that has one."""
    own_weights: ClassVar[Mapping[str, float]] = {}
    """Of the terms of its losses, by name; dataset.json may replace each of them."""
    own_schedule: ClassVar[str] = POLYNOMIAL
    """What its schedule is called in log and block, where dataset.json asks for none."""
    follows_preset: ClassVar[bool] = False
    """Whether the training of the preset that dataset.json names is meant for it: of teacher and keeper."""
    wishes: TrainingWishes = TrainingWishes()
    _own_weights: Mapping[str, float] | None = None

    def take_wishes(self, task: Task) -> None:
        """Train from now on as the dataset asks for."""
        self._own_weights = {**self.weights_for(task)}
        self.wishes = task.pretraining if self.follows_preset else task.training
        if self.wishes.schedule is not None or self.own_schedule in SCHEDULES:
            self.schedule = SCHEDULES[self.wishes.schedule or self.own_schedule]

    def rate_of(self, player: str) -> float:
        """The learning rate that is asked for, else the trainer's own."""
        learner = self.learners[0] if player == EVERYTHING else player
        return self.wishes.learning_rates.get(learner, self.initial_lr)

    def player(self, name: str, parameters: tuple[nn.Parameter, ...], **options: Any) -> Player:
        """With the gradient clip that is asked for, else the trainer's own."""
        if self.wishes.gradient_clip is not None:
            options["clip_norm"] = self.wishes.gradient_clip
        return super().player(name, parameters, **options)

    def weights_for(self, task: Task) -> Mapping[str, float]:
        """:attr:`own_weights` on this task."""
        return self.own_weights

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the terms of the losses, by name."""
        own_weights = self.own_weights if self._own_weights is None else self._own_weights
        return {name: self.wishes.weights.get(name, own) for name, own in own_weights.items()}

    def training_record(self) -> dict[str, Any]:
        """What the `uhf` block says of the training, in the words of dataset.json."""
        rates = self.wishes.learning_rates
        return {
            "learning_rate": {name: rates.get(name, self.learning_rate) for name in self.learners},
            "schedule": self.wishes.schedule or self.own_schedule,
            "weights": dict(self.weights),
            **({} if self.wishes.gradient_clip is None else {"gradient_clip": self.wishes.gradient_clip}),
        }

    def training_line(self) -> str:
        """The same for the log."""
        rates = ", ".join(f"{name} {self.rate_of(name):g}" for name in self.learners)
        weights = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        clip = "" if self.wishes.gradient_clip is None else f", gradients clipped at {self.wishes.gradient_clip:g}"
        line = f"Learning rate: {rates}, {self.wishes.schedule or self.own_schedule}{clip}"
        return f"{line}; weights of the loss: {weights}" if weights else line
