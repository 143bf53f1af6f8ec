"""What dataset.json may say of how teacher and keeper are trained: the `training` entry of its `uhf` object (ours).

Learning rates, their schedule, the weights of the losses, and the clip of gradients. What it does not say is the
preset's, else the trainer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnunet_uhf.checks import is_number
from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.distillation.losses import (
    DISCRIMINATOR_WEIGHTS,
    KEEPER_WEIGHTS,
    LABELLED_KEEPER_WEIGHTS,
    SEGMENTATION_TEACHER_WEIGHTS,
    TEACHER_WEIGHTS,
)
from nnunet_uhf.networks.pta.contrastive import CUT_WEIGHTS
from nnunet_uhf.networks.pta.losses import PTA_PRESETS
from nnunet_uhf.networks.unicoal.weights import UNICOAL_WEIGHTS

LEARNERS = ("teacher", "keeper", "generator", "discriminator", "judge", "slice_encoder", "structure_net")
"""Networks that a learning rate can be given for; the anisotropic U-Net of SIQT counts as a keeper."""
POLYNOMIAL, CONSTANT = "polynomial", "constant"
JUDGE = "judge"
"""Name of the term that holds an image against the truth by the features of a segmentation model."""
SCHEDULES = (POLYNOMIAL, CONSTANT)
"""nnU-Net's, from the learning rate to nearly 0; and the paper's."""
WEIGHTS = tuple(
    dict.fromkeys(
        (
            *TEACHER_WEIGHTS,
            *KEEPER_WEIGHTS,
            *DISCRIMINATOR_WEIGHTS,
            *UNICOAL_WEIGHTS,
            *PTA_PRESETS["code"].weights,
            *SEGMENTATION_TEACHER_WEIGHTS,
            *LABELLED_KEEPER_WEIGHTS,
            JUDGE,
            *CUT_WEIGHTS,
        )
    )
)
"""Terms of the losses that a weight can be given for, of every method."""
_ENTRIES = ("learning_rate", "schedule", "weights", "gradient_clip")
_SMALLEST_RATE, _LARGEST_RATE, _LARGEST_WEIGHT = 1e-9, 1.0, 1e6
_SMALLEST_CLIP, _LARGEST_CLIP = 1e-6, 1e9


@dataclass(frozen=True, kw_only=True)
class TrainingWishes:
    """What is asked of a training.

    Attributes:
        learning_rates: Adam's at the start, by network.
        schedule: one of :data:`SCHEDULES`; None for the trainer's own.
        weights: of terms of the losses, by name.
        gradient_clip: largest norm of the gradients of each network; None for the trainer's own.
    """

    learning_rates: Mapping[str, float] = field(default_factory=dict)
    schedule: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    gradient_clip: float | None = None

    def over(self, other: TrainingWishes) -> TrainingWishes:
        """These wishes, and those of ``other`` where these say nothing."""
        return TrainingWishes(
            learning_rates={**other.learning_rates, **self.learning_rates},
            schedule=self.schedule or other.schedule,
            weights={**other.weights, **self.weights},
            gradient_clip=other.gradient_clip if self.gradient_clip is None else self.gradient_clip,
        )


def read_training(declared: Mapping[str, Any], where: str) -> TrainingWishes:
    """Read and check ``declared["training"]``; nothing is wished where there is none.

    Args:
        declared: the `uhf` object, or what else has such an entry.
        where: the file it stands in, for errors.

    Raises:
        UHFError: the entry that is unknown, of another type or out of range.
    """
    training = declared.get("training", {})
    if not isinstance(training, Mapping) or not set(training) <= set(_ENTRIES):
        raise UHFError(f"{where}: uhf.training is {training!r}; it is an object that may set {', '.join(_ENTRIES)}")
    schedule = training.get("schedule")
    if schedule is not None and (not isinstance(schedule, str) or schedule not in SCHEDULES):
        raise UHFError(f"{where}: uhf.training.schedule is {schedule!r}; choose one of {', '.join(SCHEDULES)}")
    clip = training.get("gradient_clip")
    if clip is not None and not is_number(clip, _SMALLEST_CLIP, _LARGEST_CLIP):
        raise UHFError(
            f"{where}: uhf.training.gradient_clip is {clip!r}; give a number from {_SMALLEST_CLIP:g} to "
            f"{_LARGEST_CLIP:g}"
        )
    rate = training.get("learning_rate", {})
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(LEARNERS, rate)
    name = f"{where}: uhf.training.learning_rate"
    return TrainingWishes(
        learning_rates=_numbers(rates, LEARNERS, _SMALLEST_RATE, _LARGEST_RATE, name),
        schedule=schedule,
        weights=_numbers(training.get("weights", {}), WEIGHTS, 0, _LARGEST_WEIGHT, f"{where}: uhf.training.weights"),
        gradient_clip=None if clip is None else float(clip),
    )


def _numbers(values: object, known: tuple[str, ...], low: float, high: float, name: str) -> dict[str, float]:
    if not isinstance(values, Mapping) or not set(values) <= set(known):
        raise UHFError(f"{name} is {values!r}; it is an object that may set {', '.join(known)}")
    for entry, value in values.items():
        if not is_number(value, low, high):
            raise UHFError(f"{name} of the {entry} is {value!r}; give a number from {low:g} to {high:g}")
    return {entry: float(value) for entry, value in values.items()}
