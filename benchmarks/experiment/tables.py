"""Tables of `run.py`: Dice of every test subject, paired with the baseline's; CSV and JSON of all of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from experiment.conditions import BASELINES, CONDITIONS
from experiment.data import subjects
from experiment.settings import HIGH_FIELD, SEEDS, Places, Settings, Task
from nnunet_uhf.evaluation.statistics import RESAMPLES, compare_paired
from nnunet_uhf.stages import State

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
        truth = np.asarray(nib.load(places.labels(task) / f"{case}.nii.gz").dataobj).astype(np.int16)
        for name, labels, seed in runs(settings, state):
            for severity in settings.tested(CONDITIONS[name].test_images):
                path = places.prediction(name, labels, seed) / f"{case}_{severity}.nii.gz"
                predicted = np.asarray(nib.load(path).dataobj).astype(np.int16)
                found += [
                    Score(name, labels, seed, severity, case, structure, dice(truth, predicted, value))
                    for structure, value in structures.items()
                ]
    return found


def difference(found: list[Score], condition: str, baseline: str) -> dict[str, Any] | None:
    """Mean Dice of a condition minus that of a baseline, of the same seeds and subjects; None without a shared seed.

    The mean is over structures. `ci_subjects` resamples the subjects only: it says how far these very trainings differ
    on other subjects. `ci` resamples trainings (seeds) as well, and so says whether another training would.
    """
    seeds = {name: {score.seed for score in found if score.condition == name} for name in (condition, baseline)}
    shared = sorted(seeds[condition] & seeds[baseline])
    if not shared or condition == baseline:
        return None
    gains = subject_means(found, condition, shared) - subject_means(found, baseline, shared)  # (seeds, subjects)
    by_subject = gains.mean(axis=0)
    result = compare_paired([0.0] * len(by_subject), by_subject.tolist(), higher_is_better=True)
    return {
        "to": baseline,
        "seeds": shared,
        "mean": float(gains.mean()),
        "ci": interval(gains) if len(shared) > 1 else None,
        "ci_subjects": result.ci,
        "by_seed": gains.mean(axis=1).tolist(),
        "wins": result.wins,
        "losses": result.losses,
    }


def interval(gains: NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of `(seeds, subjects)`; both are drawn anew, with replacement."""
    rng = np.random.default_rng(0)
    seeds, subjects_ = gains.shape
    rows = rng.integers(seeds, size=(RESAMPLES, seeds, 1))
    columns = rng.integers(subjects_, size=(RESAMPLES, 1, subjects_))
    low, high = np.quantile(gains[rows, columns].mean(axis=(1, 2)), (0.025, 0.975))
    return float(low), float(high)


def row(found: list[Score], condition: str, baseline: str) -> dict[str, Any]:
    """One line of a table, from the scores of one label count and severity."""
    own = [score for score in found if score.condition == condition]
    seeds = sorted({score.seed for score in own})
    per_seed = subject_means(found, condition, seeds).mean(axis=1)
    structures = dict.fromkeys(score.structure for score in own)
    return {
        "condition": condition,
        "seeds": seeds,
        "subjects": len({score.case for score in own}),
        "structures": {
            name: float(np.nanmean([score.dice for score in own if score.structure == name])) for name in structures
        },
        "mean": float(per_seed.mean()),
        "sd_seeds": float(per_seed.std(ddof=1)) if len(seeds) > 1 else None,
        "difference": difference(found, condition, baseline),
    }


def subject_means(found: list[Score], condition: str, seeds: list[int]) -> NDArray[np.float64]:
    """Dice of a condition, `(seeds, subjects)`: the mean over structures."""
    cases = sorted({score.case for score in found})
    return np.array(
        [
            [
                np.nanmean([s.dice for s in found if (s.condition, s.seed, s.case) == (condition, seed, case)])
                for case in cases
            ]
            for seed in seeds
        ]
    )


def tables(settings: Settings, found: list[Score]) -> dict[str, list[dict[str, Any]]]:
    """All lines, by "LABELS labels, tested at SEVERITY"."""
    result = {}
    for labels in settings.labels:
        for severity in (*(severity.name for severity in settings.tests), HIGH_FIELD):
            chosen = [score for score in found if score.labels == labels and score.severity == severity]
            lines = [
                row(chosen, name, BASELINES.get(name, "plain"))
                for name in CONDITIONS
                if any(score.condition == name for score in chosen)
            ]
            if lines:
                result[f"{labels} labels, tested at {severity}"] = lines
    return result


def print_tables(settings: Settings, lines: dict[str, list[dict[str, Any]]], console: Console) -> None:
    """The tables for people."""
    for title, rows in lines.items():
        table = Table(title=f"Dice in percent, trained at {settings.trained.name}, {title}")
        structures = list(rows[0]["structures"]) if len(rows[0]["structures"]) <= MANY else []
        for heading in ("condition", "seeds", *structures, "mean (SD of seeds)"):
            table.add_column(heading)
        table.add_column("minus its baseline [95 % CI] by seed")
        for line in rows:
            spread = "" if line["sd_seeds"] is None else f" ({line['sd_seeds']:.2f})"
            table.add_row(
                line["condition"],
                str(len(line["seeds"])),
                *(f"{line['structures'][name]:.2f}" for name in structures),
                f"{line['mean']:.2f}{spread}",
                _against(line["difference"]),
            )
        console.print(table)


def _against(found: dict[str, Any] | None) -> str:
    return "" if found is None else f"{written(found)} to {found['to']}"


def written(found: dict[str, Any]) -> str:
    """A difference for people."""
    bounds = "" if found["ci"] is None else f" [{found['ci'][0]:+.2f}, {found['ci'][1]:+.2f}]"
    return f"{found['mean']:+.2f}{bounds} {' '.join(f'{value:+.2f}' for value in found['by_seed'])}"


def report(
    settings: Settings,
    found: list[Score],
    further: dict[str, list[dict[str, Any]]],
    places: Places,
    state: State,
    *,
    console: Console,
) -> None:
    """Print the tables of everything that is finished; write results.csv (one Dice a line) and results.json.

    `further` is what results.json holds beside the tables, by name.
    """
    lines = tables(settings, found)
    print_tables(settings, lines, console)
    with (places.out / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(found[0])) if found else ["condition"])
        writer.writeheader()
        writer.writerows(asdict(score) for score in found)
    content = {"settings": asdict(settings), **further, "tables": lines, "seconds": state.finished}
    _write(places.out / "results.json", content)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
