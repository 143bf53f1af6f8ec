"""Which keepers guided the compared models, what these were trained on, and whether that spoils the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_uhf.guidance.matching import overlapping_cases
from nnunet_uhf.guidance.provenance import Provenance
from nnunet_uhf.guidance.stated import NOT_STATED, StatedGuidance, StatedKeeper
from nnunet_uhf.keepers.table import in_tesla
from nnunet_uhf.networks.guided.controls import CONTROLS
from nnunet_uhf.report.entries import Entry


@dataclass(frozen=True)
class KeeperFacts:
    """What the `uhf` block of an entry says of its keeper; None is "not stated".

    Attributes:
        entry: name of the entry.
        rows: (what, value) to be read by people.
        overlap: compared cases that the keeper was trained on.
        held_out: compared cases that its training was validated on.
        control: description of the control, None for guidance as it is meant.
    """

    entry: str
    rows: tuple[tuple[str, str], ...]
    overlap: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    control: str | None = None


def keeper_facts(entry: Entry, cases: Sequence[str]) -> list[KeeperFacts]:
    """What is known of the keeper of an entry; empty where no guidance is recorded.

    Predictions do not tell which configuration of their plans.json they are of: all of its keepers are looked at.

    Args:
        entry: model folder, or predictions with nnU-Net's plans.json.
        cases: the compared ones.
    """
    guided = {name: (block, block.keeper) for name, block in entry.blocks.items() if block.keeper is not None}
    return [
        _facts(entry.name, block, keeper, cases, of=configuration if len(guided) > 1 else None)
        for configuration, (block, keeper) in guided.items()
    ]


def _facts(
    entry: str, block: StatedGuidance, keeper: StatedKeeper, cases: Sequence[str], *, of: str | None
) -> KeeperFacts:
    """Of one block; `of` is its configuration where the entry may be of another one."""
    origin, control = keeper.origin, CONTROLS.get(str(block.control))
    training, held_out = origin.training_cases, origin.validation_cases
    rows = [
        ("network", keeper.network),
        ("trained on", f"{origin.dataset or '?'}, {origin.configuration or '?'}, {_fold(origin)}"),
        (
            "field",
            f"{in_tesla(origin.source_field)} → {in_tesla(origin.target_field)}, route: {origin.route or NOT_STATED}",
        ),
        ("subjects", f"{len(training)} for training, {len(held_out)} held out"),
        ("held-out quality", _quality(origin.metrics)),
        ("preset", block.preset),
        ("weights (sha256)", keeper.sha256),
    ]
    if control is not None:
        rows.insert(0, ("CONTROL", control.description))
    if of is not None:
        rows.insert(0, ("CONFIGURATION", f"{of}, if these are its predictions: plans.json has several with a keeper"))
    return KeeperFacts(
        entry=entry,
        rows=tuple(rows),
        overlap=tuple(overlapping_cases(training, cases)),
        held_out=tuple(overlapping_cases(held_out, cases)),
        control=None if control is None else control.description,
    )


def overlap_warning(facts: KeeperFacts, cases: int) -> str | None:
    """The warning that compared subjects are in the keeper's training; None where none is."""
    if not facts.overlap:
        return None
    shown = ", ".join(facts.overlap[:10]) + (", ..." if len(facts.overlap) > 10 else "")
    return (
        f"THE KEEPER OF {facts.entry} WAS TRAINED ON {len(facts.overlap)} OF THE {cases} COMPARED SUBJECTS ({shown}). "
        "Its scores on them are no held-out scores: the comparison favours it, and no conclusion may be drawn from it."
    )


def _fold(origin: Provenance) -> str:
    fold = origin.fold or "?"
    return fold if fold.startswith("seed") else f"fold {fold}"  # drawn weights have a seed in place of a fold


def _quality(metrics: Mapping[str, Any]) -> str:
    """PSNR and SSIM of the keeper and of its input, where the header has them."""
    parts = [
        f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in values.items())
        for name, values in metrics.items()
        if isinstance(values, Mapping) and all(isinstance(value, int | float) for value in values.values())
    ]
    return "; ".join(parts) or NOT_STATED
