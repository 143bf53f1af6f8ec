"""Table and picture of `run.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from nnunet_uhf.report.repeats import paired_trainings

BASELINE = "plain"
PAIRS = (("guided", "random"), ("guided", "same_field"), ("guided", "zero"), ("random", "zero"))
"""Of what else the difference is of interest: knowledge, high field, guides at all, any features."""


def scores(trainings: Sequence[dict[str, Any]], group: str) -> dict[str, dict[int, dict[int, float]]]:
    """Mean Dice over labels and scans by condition, seed and step."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for each in trainings:
        curve = {int(step): mean_dice(tests[group]) for step, tests in each["curve"].items()}
        found.setdefault(each["condition"], {})[each["seed"]] = curve
    return found


def mean_dice(scans: Sequence[Sequence[float | None]]) -> float:
    """Over labels and scans, without labels that are neither in truth nor in prediction."""
    return float(np.nanmean(np.array(scans, dtype=float)))


def difference(first: dict[int, float], second: dict[int, float]) -> str:
    """``+3.0 ± 1.5 [0.6, 5.4] (4)``: mean and standard deviation over the seeds, 95 % interval (Student's t)."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return ""
    pairs = paired_trainings(np.array([first[seed] - second[seed] for seed in seeds]), seeds)
    if pairs.ci is None:
        return f"{pairs.mean:+.2f} (1)"
    low, high = pairs.ci
    return f"{pairs.mean:+.2f} ± {np.std(pairs.differences, ddof=1):.2f} [{low:+.2f}, {high:+.2f}] ({len(seeds)})"


def table(trainings: Sequence[dict[str, Any]], group: str) -> Table:
    """Every condition against plain, and the pairs, at every step that was tested."""
    found = scores(trainings, group)
    steps = sorted({step for by_seed in found.values() for curve in by_seed.values() for step in curve})
    made = Table(title=f"{group}: difference of mean Dice, paired by seed: mean ± sd [95 % interval] (seeds)")
    for heading in ("", *(f"{step} steps" for step in steps), "loudness, fine to coarse"):
        made.add_column(heading)

    def at(name: str, step: int) -> dict[int, float]:
        return {seed: curve[step] for seed, curve in found[name].items() if step in curve}

    if BASELINE in found:
        plain = [at(BASELINE, step).values() for step in steps]
        made.add_row("plain", *(f"{min(v):.1f} to {max(v):.1f}" for v in plain), "")
    pairs = [(name, BASELINE) for name in found if name != BASELINE] + list(PAIRS)
    for first, second in pairs:
        if first in found and second in found:
            cells = [difference(at(first, step), at(second, step)) for step in steps]
            made.add_row(f"{first} - {second}", *cells, _loudness(trainings, first) if second == BASELINE else "")
    return made


def _loudness(trainings: Sequence[dict[str, Any]], condition: str) -> str:
    measured = [each["loudness"] for each in trainings if each["condition"] == condition and each["loudness"]]
    return " ".join(f"{value:.2f}" for value in np.mean(measured, axis=0)) if measured else ""


def draw(trainings: Sequence[dict[str, Any]], path: Path) -> None:
    """Difference from plain by step: every seed as a dot, the mean of a condition with its 95 % interval."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    group = next(iter(next(iter(trainings[0]["curve"].values()))))
    found = scores(trainings, group)
    plain = found.pop(BASELINE, {})
    steps = sorted({step for curve in plain.values() for step in curve})
    if not found or not steps:
        return
    for index, (name, by_seed) in enumerate(found.items()):
        shift = (index - (len(found) - 1) / 2) * 0.012 * steps[-1]
        points = []
        for step in steps:
            seeds = [seed for seed, curve in by_seed.items() if step in curve.keys() & plain.get(seed, {}).keys()]
            values = [by_seed[seed][step] - plain[seed][step] for seed in seeds]
            axes.plot([step + shift] * len(values), values, "o", color=f"C{index}", alpha=0.4, markersize=4)
            pairs = paired_trainings(np.array(values), seeds)
            points.append((pairs.mean, 0.0 if pairs.ci is None else pairs.ci[1] - pairs.mean))
        means, halves = zip(*points, strict=True)
        at = [step + shift for step in steps]
        axes.errorbar(at, means, yerr=halves, color=f"C{index}", marker="s", capsize=4, label=name)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(steps)
    axes.set_xlim(0 if len(steps) > 1 else 0.85 * steps[0], 1.15 * steps[-1])
    axes.set_xlabel("steps")
    axes.set_ylabel("Dice, points above plain nnU-Net of the same seed")
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=90)
