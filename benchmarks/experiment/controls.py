"""Every way of being guided against its controls: what of a gain is knowledge, and what is high field."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from experiment.conditions import CONTROLS
from experiment.settings import Settings
from experiment.tables import Score, difference, written

BETTER, WORSE, ALIKE, UNKNOWN = "better", "worse", "not told apart", "one seed: not known"


def against_controls(settings: Settings, found: list[Score]) -> list[dict[str, Any]]:
    """A line for every condition and control that share a seed, by label count and severity; `minus` is in points."""
    lines = []
    for labels in settings.labels:
        for severity in settings.tested_low:
            chosen = [score for score in found if score.labels == labels and score.severity == severity]
            for condition, controls in CONTROLS.items():
                for control in controls:
                    minus = difference(chosen, condition, control)
                    if minus is not None:
                        names = {"labels": labels, "severity": severity, "condition": condition, "control": control}
                        lines.append({**names, "minus": minus, "verdict": verdict(minus)})
    return lines


def verdict(minus: dict[str, Any]) -> str:
    """In words, by the interval over seeds and subjects."""
    if minus["ci"] is None:
        return UNKNOWN
    low, high = minus["ci"]
    return BETTER if low > 0 else WORSE if high < 0 else ALIKE


def print_controls(lines: list[dict[str, Any]], console: Console) -> None:
    """The table for people; nothing where there is no line."""
    table = Table(title="Against its controls: Dice points, mean [95 % CI over seeds and subjects] by seed")
    for heading in ("labels", "tested at", "condition", "minus", "points", "it is"):
        table.add_column(heading)
    for line in lines:
        table.add_row(
            str(line["labels"]), line["severity"], line["condition"], line["control"], written(line["minus"]),
            line["verdict"],
        )  # fmt: skip
    if lines:
        console.print(table)
