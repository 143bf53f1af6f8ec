"""Tables of `experiment.py`: Dice of every test subject, paired with the baseline's; CSV and JSON of all of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from experiment_data import subjects
from experiment_settings import BASELINES, CONDITIONS, HIGH_FIELD, SEEDS, Places, Settings, Task
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nnunet_uhf.demo.stages import State
from nnunet_uhf.report.statistics import compare_paired

MANY = 6
"""Structures up to which the printed table has a column for each; CSV and JSON have all."""


@dataclass(frozen=True)
class Score:
    """Dice of one structure of one test subject, in percent; NaN where it is in neither label map."""

    condition: str
    labels: int
    seed: int
    severity: str
    case: str
    structure: str
    dice: float


def dice(truth: NDArray[np.integer], predicted: NDArray[np.integer], label: int) -> float:
    """2 |A and B| / (|A| + |B|) in percent; NaN when both are empty."""
    first, second = truth == label, predicted == label
    total = int(first.sum()) + int(second.sum())
    return 200.0 * int((first & second).sum()) / total if total else float("nan")


def runs(settings: Settings, state: State) -> Iterator[tuple[str, int, int]]:
    """Condition, label count and seed of every finished training that has its predictions."""
    for seed in range(SEEDS):
        for labels in settings.labels:
            for name in CONDITIONS:
                if f"run_{name}_{labels}_{seed}" in state.finished:
                    yield name, labels, seed


def scores(settings: Settings, task: Task, places: Places, state: State) -> list[Score]:
    """Dice of all finished runs."""
    found = []
    structures = {name: value for name, value in task.names.items() if value}
    for case in subjects(settings, task, places)["test"]:
        truth = np.asarray(nib.load(places.data / task.labels / f"{case}.nii.gz").dataobj).astype(np.int16)
        for name, labels, seed in runs(settings, state):
            for severity in settings.tested(CONDITIONS[name].dataset):
                path = places.prediction(name, labels, seed) / f"{case}_{severity}.nii.gz"
                predicted = np.asarray(nib.load(path).dataobj).astype(np.int16)
                found += [
                    Score(name, labels, seed, severity, case, structure, dice(truth, predicted, value))
                    for structure, value in structures.items()
                ]
    return found


def row(found: list[Score], *, condition: str, baseline: str) -> dict[str, Any] | None:
    """One line of a table, from the scores of one label count and severity; None without a seed of both conditions.

    The mean is over structures, then subjects, then seeds; `sd_seeds` is of the seeds' means. The difference to the
    baseline is taken on the same subject and seed, averaged over seeds, and its interval is over subjects.
    """
    seeds = {name: {score.seed for score in found if score.condition == name} for name in (condition, baseline)}
    shared = sorted(seeds[condition] & seeds[baseline])
    if not shared:
        return None
    chosen = [score for score in found if score.seed in shared]
    cases = sorted({score.case for score in chosen})
    structures = list(dict.fromkeys(score.structure for score in chosen))
    values = {name: _array(chosen, name, shared, cases, structures) for name in (condition, baseline)}
    means = np.nanmean(values[condition], axis=2)  # (seeds, cases)
    base = np.nanmean(values[baseline], axis=2)
    result = compare_paired(list(base.mean(axis=0)), list(means.mean(axis=0)), higher_is_better=True)
    per_seed = means.mean(axis=1)
    return {
        "condition": condition,
        "baseline": baseline,
        "seeds": shared,
        "subjects": len(cases),
        "structures": dict(zip(structures, np.nanmean(values[condition], axis=(0, 1)).tolist(), strict=True)),
        "mean": float(per_seed.mean()),
        "sd_seeds": float(per_seed.std(ddof=1)) if len(shared) > 1 else None,
        "difference": result.difference,
        "ci": result.ci,
        "difference_by_seed": (means - base).mean(axis=1).tolist(),
        "wins": result.wins,
        "losses": result.losses,
    }


def _array(
    found: list[Score], condition: str, seeds: list[int], cases: list[str], structures: list[str]
) -> NDArray[np.float64]:
    """Dice of a condition, (seeds, cases, structures)."""
    array = np.full((len(seeds), len(cases), len(structures)), np.nan)
    for score in found:
        if score.condition == condition:
            place = seeds.index(score.seed), cases.index(score.case), structures.index(score.structure)
            array[place] = score.dice
    return array


def tables(settings: Settings, found: list[Score]) -> dict[str, list[dict[str, Any]]]:
    """All lines, by "LABELS labels, tested at SEVERITY"."""
    result = {}
    for labels in settings.labels:
        for severity in (*(severity.name for severity in settings.tests), HIGH_FIELD):
            chosen = [score for score in found if score.labels == labels and score.severity == severity]
            lines = [
                row(chosen, condition=name, baseline=BASELINES.get(name, "plain"))
                for name in CONDITIONS
                if any(score.condition == name for score in chosen)
            ]
            kept = [line for line in lines if line is not None]
            if kept:
                result[f"{labels} labels, tested at {severity}"] = kept
    return result


def print_tables(settings: Settings, lines: dict[str, list[dict[str, Any]]], console: Console) -> None:
    """The tables for people."""
    for title, rows in lines.items():
        table = Table(title=f"Dice in percent, trained at {settings.trained.name}, {title}")
        structures = list(rows[0]["structures"]) if len(rows[0]["structures"]) <= MANY else []
        for heading in ("condition", *structures, "mean (SD of seeds)", "difference [95 % CI]", "to", "by seed"):
            table.add_column(heading)
        for line in rows:
            spread = "" if line["sd_seeds"] is None else f" ({line['sd_seeds']:.2f})"
            same = line["condition"] == line["baseline"]
            interval = "" if line["ci"] is None else f" [{line['ci'][0]:+.2f}, {line['ci'][1]:+.2f}]"
            table.add_row(
                line["condition"],
                *(f"{line['structures'][name]:.2f}" for name in structures),
                f"{line['mean']:.2f}{spread}",
                "" if same else f"{line['difference']:+.2f}{interval}",
                "" if same else line["baseline"],
                "" if same else " ".join(f"{value:+.2f}" for value in line["difference_by_seed"]),
            )
        console.print(table)


def report(settings: Settings, task: Task, places: Places, state: State, *, console: Console) -> None:
    """Print the tables of everything that is finished; write results.csv (one Dice a line) and results.json."""
    found = scores(settings, task, places, state)
    lines = tables(settings, found)
    print_tables(settings, lines, console)
    with (places.out / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(found[0])) if found else ["condition"])
        writer.writeheader()
        writer.writerows(asdict(score) for score in found)
    content = {"settings": asdict(settings), "tables": lines, "seconds": state.finished}
    _write(places.out / "results.json", content)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
