"""Which source of pairs a route has: the one place that knows them all (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnunet_uhf.errors import UHFError
from nnunet_uhf.routes.task import EnhancementTask
from nnunet_uhf.trainers.image_to_image.dataset_channels import DatasetChannels
from nnunet_uhf.trainers.image_to_image.pair_source import PairSource
from nnunet_uhf.trainers.image_to_image.simulated_pairs import SimulatedPairs
from nnunet_uhf.trainers.image_to_image.thick_pairs import ThickPairs


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a source has to know of plans: patch size `(*S)` and whether normalisation counts the nonzero mask only."""

    patch_size: Sequence[int]
    masked: bool
    dataset: str
    """Its name, for errors."""


def _stored(task: EnhancementTask, planned: Planned) -> PairSource:  # noqa: ARG001
    return DatasetChannels([task.source_channel], task.target_channel)


def _simulated(task: EnhancementTask, planned: Planned) -> PairSource:
    """Simulated while training, or, without `uhf.simulate`, beforehand and stored as a channel."""
    if task.simulation is None:
        return _stored(task, planned)
    pairs = ThickPairs if task.simulation.mode == "native" else SimulatedPairs
    return pairs(
        task.simulation,
        channel=task.target_channel,
        patch_size=planned.patch_size,
        masked=planned.masked,
        where=planned.dataset,
    )


SOURCES: dict[str, Callable[[EnhancementTask, Planned], PairSource]] = {
    "paired": _stored,
    "simulated": _simulated,
    "unpaired": _stored,  # pairs that a model of the route made
    "unicoal": _stored,
}
"""By the name of the route in dataset.json."""


def pair_source(task: EnhancementTask, planned: Planned) -> PairSource:
    """How the pairs of a dataset come about.

    Raises:
        UHFError: no trainer of pairs can train on this route, or the source cannot be made as dataset.json says.
    """
    if task.route not in SOURCES:
        raise UHFError(
            f"dataset.json of {planned.dataset}: trainers of pairs cannot train on uhf.route {task.route!r}, only on "
            f"{', '.join(SOURCES)}; use a trainer that is made for it"
        )
    return SOURCES[task.route](task, planned)
