"""The gates of `run.py`: how much there is to gain at all, before anything is said of guidance.

`low_all` has the labels of all keeper subjects: no prior that learns from their images can be expected to surpass it.
`true_guides` hears the teacher's maps of the true high-field image: no keeper can be better. `high_plain` has
high-field images with as few labels. `plain_longer` trains once more as long: what it gains is time, and so may be what
guidance gains. All four are looked at before any guided training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experiment.settings import HIGH_FIELD, Settings
from experiment.tables import Score, difference, subject_means

GATES = ("low_all", "true_guides", "high_plain", "plain_longer")
SMALLEST = 2.0
"""Headroom in Dice points below which nothing can be shown, and what plain may still gain by time."""
NOTHING, UNKNOWN, SOMETHING = "nothing can be shown here", "not known", "something could be shown"
TOO_SHORT = "too short: plain still learns"


def headroom(settings: Settings, found: list[Score]) -> list[dict[str, Any]]:
    """For every label count and tested severity: each gate minus plain nnU-Net by seed, and whether it leaves room.

    `spread` is the standard deviation over seeds of `low_all` minus plain; with one seed it is not known, nor is then
    whether there is room.
    """
    lines = []
    for labels in settings.labels:
        for severity in settings.tested_low:
            chosen = [s for s in found if s.labels == labels and s.severity == severity]
            if not any(score.condition == "plain" for score in chosen):
                continue
            above = {
                gate: difference(
                    chosen if gate != "high_plain" else _at_high_field(chosen, found, labels), gate, "plain"
                )
                for gate in GATES
            }
            plain = [score for score in chosen if score.condition == "plain"]
            seeds = sorted({score.seed for score in plain})
            lines.append(
                {
                    "labels": labels,
                    "severity": severity,
                    "plain": float(subject_means(plain, "plain", seeds).mean()),
                    "above_plain": above,
                    **verdict(above["low_all"], above["plain_longer"]),
                }
            )
    return lines


def _at_high_field(chosen: list[Score], found: list[Score], labels: int) -> list[Score]:
    """Plain as it is, and the network of high-field images where it is tested on such."""
    plain = [score for score in chosen if score.condition == "plain"]
    high = [s for s in found if (s.condition, s.labels, s.severity) == ("high_plain", labels, HIGH_FIELD)]
    return [*plain, *high]


def verdict(low_all: dict[str, Any] | None, longer: dict[str, Any] | None) -> dict[str, Any]:
    """Whether the difference of `low_all` to plain leaves room for any prior, in trainings that are long enough."""
    several = low_all is not None and len(low_all["by_seed"]) > 1
    spread = float(np.std(low_all["by_seed"], ddof=1)) if several else None
    if longer is not None and longer["mean"] >= SMALLEST:
        return {"spread": spread, "verdict": TOO_SHORT}
    if spread is None:
        return {"spread": None, "verdict": UNKNOWN}
    room = low_all["mean"] >= SMALLEST and spread <= low_all["mean"]
    return {"spread": spread, "verdict": SOMETHING if room else NOTHING}


def print_headroom(lines: list[dict[str, Any]], console: Console) -> None:
    """The table, and a sentence for every setting that leaves no room."""
    table = Table(title="Headroom: Dice points above plain nnU-Net, mean over seeds (by seed)")
    for heading in ("labels", "tested at", "plain", *GATES, "verdict"):
        table.add_column(heading)
    for line in lines:
        cells = []
        for gate in GATES:
            one = line["above_plain"][gate]
            by_seed = "" if one is None else " ".join(f"{value:+.1f}" for value in one["by_seed"])
            cells.append("" if one is None else f"{one['mean']:+.2f} ({by_seed})")
        table.add_row(str(line["labels"]), line["severity"], f"{line['plain']:.1f}", *cells, line["verdict"])
    if lines:
        console.print(table)
