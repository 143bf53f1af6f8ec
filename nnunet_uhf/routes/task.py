"""What an enhancement dataset asks for, and what a route is: one way in which pairs of images come about (ours)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from nnunet_uhf.networks.kinds import sizes_of
from nnunet_uhf.networks.presets import DEFAULT_PRESET, PRESETS
from nnunet_uhf.routes.simulation import SimulationTask
from nnunet_uhf.routes.training import TrainingWishes, read_training


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the `uhf` object of any route asks for; a route has a subclass with entries of its own.

    Attributes:
        route: its name in :data:`nnunet_uhf.routes.table.ROUTES`.
        architecture: sizes of networks, of the user and of the preset.
        preset: its name in :data:`nnunet_uhf.networks.presets.PRESETS`.
        training: wishes for the training.
    """

    route: str
    architecture: Mapping[str, Any]
    preset: str = DEFAULT_PRESET
    training: TrainingWishes = field(default_factory=TrainingWishes)

    @property
    def channel(self) -> str:
        """Name of the channel of its low-field images, which datasets that a keeper guides are matched to."""
        raise NotImplementedError

    @property
    def low_field_T(self) -> float | None:  # noqa: N802 - the field's unit
        """Field strength of the low-field images in tesla; None where the `uhf` object does not say it."""
        raise NotImplementedError

    @property
    def high_field_T(self) -> float | None:  # noqa: N802
        """Field strength of the high-field images in tesla; None where the `uhf` object does not say it."""
        raise NotImplementedError

    def architecture_of(self, network: type[nn.Module]) -> dict[str, Any]:
        """Those of the user's architecture options that this network has."""
        return {name: value for name, value in self.architecture.items() if name in sizes_of(network)}

    @property
    def pretraining(self) -> TrainingWishes:
        """What is asked of the training of teacher and keeper: the user's entries over those of the preset."""
        preset = read_training({"training": PRESETS[self.preset].training}, f"preset {self.preset}")
        return self.training.over(preset)


@dataclass(frozen=True, kw_only=True)
class EnhancementTask(Task):
    """A pair of channels of the same subjects, and the field strengths in tesla they stand for.

    With `simulation`, the source is made from the only channel of the dataset while training: both channel numbers are
    that channel's, and `source_field_T` may be None for that of the preset. `made_by` names the model that made
    one half of the pairs, and what it has seen. `simulated_by` is the record of a source
    that was simulated before, and lies on the disk. `teacher`: what a keeper's teacher has learnt, "image" or
    "segmentation". `judge`: folder of a finished segmentation model whose features judge images by the truth.
    """

    source: str
    target: str
    source_channel: int
    target_channel: int
    source_field_T: float | None  # noqa: N815 - the field's unit, as in dataset.json
    target_field_T: float  # noqa: N815
    simulation: SimulationTask | None = None
    made_by: Mapping[str, Any] | None = None
    simulated_by: Mapping[str, Any] | None = None
    teacher: str = "image"
    judge: str | None = None

    @property
    def channel(self) -> str:
        """The source."""
        return self.source

    @property
    def low_field_T(self) -> float | None:  # noqa: N802
        """The source's."""
        return self.source_field_T

    @property
    def high_field_T(self) -> float:  # noqa: N802
        """The target's."""
        return self.target_field_T


@dataclass(frozen=True, kw_only=True)
class Route:
    """One way in which pairs of images come about.

    Attributes:
        name: in headers of keepers; never changed, files hold it.
        taught: from the two field strengths as text, what a network learnt from: the sentence that an enhanced image
            bears begins with "Image inferred by a neural network trained on ".
        low_field: what its low-field images are called there.
        entry: the entry of the `uhf` object that asks for it; None where there is none of its own.
        read: reads such an object of a dataset.json, of a file named so in errors, which are UHFError; None for a route
            that this version only knows from headers.
        stored: pairs of scans on the disk may say as `uhf.route` that they came about so.
        trainers: who trains on it, as the end of "use ..": for errors of trainers that do not.
    """

    name: str
    taught: Callable[[str, str], str]
    low_field: str = "low-field images"
    entry: str | None = None
    read: Callable[[Mapping[str, Any], Mapping[str, Any], str], Task] | None = None
    stored: bool = False
    trainers: str = "a trainer that is made for it"
