"""Trainers of a fixed length, made when they are asked for; nnU-Net's own length is 1000 epochs."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

_NAME = re.compile(r"(?P<trainer>[A-Za-z0-9]+)_(?:(?P<one>1)epoch|(?P<more>[2-9]|[1-9][0-9]{1,3})epochs)")

NNUNET_EPOCHS = 1000
LONGEST = 9999
"""Epochs that a name can say."""


class FixedLength(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: train for ``length`` epochs."""

    length: ClassVar[int]

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.length


def base_and_length(name: str) -> tuple[str, int] | None:
    """``UHFTrainer_50epochs`` -> ``("UHFTrainer", 50)``; one epoch is ``_1epoch``; None for any other name."""
    match = _NAME.fullmatch(name)
    return None if match is None else (match["trainer"], int(match["one"] or match["more"]))


def suffix_of_length(length: int) -> str:
    """The ending of the name of a trainer of ``length`` epochs, 1 to :data:`LONGEST`: ``_1epoch``, ``_50epochs``."""
    return "_1epoch" if length == 1 else f"_{length}epochs"


def fixed_length(trainer: type[nnUNetTrainer], length: int, *, name: str, module: str) -> type[nnUNetTrainer]:
    """A subclass of the trainer that trains for ``length`` epochs; ``module`` is where pickle finds it by name."""
    text = f"{trainer.__name__} for {length} {'epoch' if length == 1 else 'epochs'}."
    return type(name, (FixedLength, trainer), {"length": length, "__doc__": text, "__module__": module})
