"""What a probe found, as a table, files and a picture: means with intervals over subjects, differences paired."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from nnunet_uhf import __version__
from nnunet_uhf.evaluation.probe.classifier import BALANCE, ITERATIONS, PER_LABEL, SPREAD
from nnunet_uhf.evaluation.probe.run import Arm, ProbeResult, all_structures, subject_means
from nnunet_uhf.evaluation.statistics import bootstrap_interval, compare_paired
from nnunet_uhf.imageio.output import write_table, written_whole

FILES = ("probe.json", "probe.csv", "probe.png")


def as_json(result: ProbeResult) -> dict[str, Any]:
    """All of a probe; Dice is 0 to 1, intervals are 95 % over the tested subjects, of this one classifier."""
    arms = {}
    for arm in result.arms:
        means = subject_means(result, arm.name)
        arms[arm.name] = {
            "control_kind": arm.control,
            "control_of": list(arm.of),
            "maps": result.features[arm.name],
            "source": arm.source.note,
            "classifier_converged": result.converged[arm.name],
            "tested_subjects_in_its_training": result.seen(arm),
            "mean": _mean(means),
            "structures": {
                name: _mean([_of(result, arm.name, subject.name, name) for subject in result.data.tested])
                for name in all_structures(result)
            },
            "minus": {
                other.name: asdict(compare_paired(subject_means(result, other.name), means, higher_is_better=True))
                for other in held_against(result, arm)
            },
        }
    return {
        "dataset": result.data.dataset,
        "labelled": [subject.name for subject in result.data.labelled],
        "tested": [subject.name for subject in result.data.tested],
        "seed": result.seed,
        "maps_of_networks_beside_the_neighbourhood": result.beside_image,
        "classifier": {
            "kind": "multinomial logistic regression on standardised maps",
            "voxels_per_label_and_subject": PER_LABEL,
            "weight_exponent_of_a_label_s_share": BALANCE,
            "iterations": ITERATIONS,
            "inverse_penalty_times_maps": SPREAD,
        },
        "score": "Dice, 0 to 1",
        "intervals": "95 % bootstrap over tested subjects; labelled subjects, voxels and weights are fixed",
        "arms": arms,
        "nnunet_uhf_version": __version__,
    }


def held_against(result: ProbeResult, arm: Arm) -> list[Arm]:
    """Every other arm a keeper is compared to: all of them; a control is compared to nothing."""
    return [] if arm.control is not None else [other for other in result.arms if other.name != arm.name]


def _of(result: ProbeResult, arm: str, subject: str, structure: str) -> float:
    return result.dice[arm][subject][structure]


def _mean(values: Sequence[float]) -> dict[str, Any]:
    kept = np.array([value for value in values if not math.isnan(value)])
    if not len(kept):
        return {"mean": None, "ci": None, "subjects": 0}
    ci, _ = bootstrap_interval(kept, seed=0)
    return {"mean": float(kept.mean()), "ci": ci, "subjects": len(kept)}


def as_table(content: dict[str, Any]) -> Table:
    """The arms with their means in percent, and how far keepers are above their own controls."""
    arms = content["arms"]
    kinds = dict.fromkeys(arm["control_kind"] for arm in arms.values() if arm["control_kind"] is not None)
    beside = "; networks beside the neighbourhood" if content["maps_of_networks_beside_the_neighbourhood"] else ""
    table = Table(
        title=f"{content['dataset']}: {len(content['labelled'])} labelled, {len(content['tested'])} tested subjects; "
        f"Dice in percent [95 % over subjects]{beside}"
    )
    for heading in ("maps of", "how many", "Dice", *(f"minus {kind}" for kind in kinds)):
        table.add_column(heading)
    for name, arm in arms.items():
        own = {one["control_kind"]: other for other, one in arms.items() if name in one["control_of"]}
        cells = [_shown(arm["minus"].get(own.get(kind)), "difference", signed=True) for kind in kinds]
        table.add_row(escape(name), str(arm["maps"]), _shown(arm["mean"], "mean"), *cells)
    return table


def notes(content: dict[str, Any]) -> list[str]:
    """What else a reader has to know, a sentence each."""
    told = []
    for name, arm in content["arms"].items():
        seen = arm["tested_subjects_in_its_training"]
        if seen:
            few = ", ".join(seen[:3]) + (", .." if len(seen) > 3 else "")
            told.append(f"{name} was trained on {len(seen)} of the tested subjects ({few}): its scores are too good")
        if not arm["classifier_converged"]:
            told.append(f"the classifier of {name} stopped after {ITERATIONS} iterations, before it came to rest")
    return told


def _shown(found: dict[str, Any] | None, key: str, *, signed: bool = False) -> str:
    if found is None or found[key] is None:
        return ""
    sign = "+" if signed else ""
    ci = "" if found["ci"] is None else f" [{100 * found['ci'][0]:{sign}.1f}, {100 * found['ci'][1]:{sign}.1f}]"
    return f"{100 * found[key]:{sign}.1f}{ci}"


def write_report(result: ProbeResult, folder: Path) -> list[Path]:
    """Write :data:`FILES`, each whole: everything, one Dice a line, and the picture."""
    content = as_json(result)
    paths = [folder / name for name in FILES]
    with written_whole(paths[0]) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    lines = [
        {"maps_of": arm, "subject": subject, "structure": structure, "dice": "" if math.isnan(dice) else f"{dice:.5f}"}
        for arm, by_subject in result.dice.items()
        for subject, scores in by_subject.items()
        for structure, dice in scores.items()
    ]
    write_table(paths[1], lines)
    with written_whole(paths[2]) as temporary:
        draw_structures(content, temporary)
    return paths


def draw_structures(content: dict[str, Any], path: Path) -> None:
    """Dice of every structure, and of their mean, by arm, with intervals."""
    from matplotlib.figure import Figure

    arms = content["arms"]
    structures = list(next(iter(arms.values()))["structures"])
    rows = ["mean", *structures]
    figure = Figure(figsize=(8, 1.6 + 0.18 * len(rows) * max(2, len(arms))), layout="constrained")
    axes = figure.subplots()
    for index, (name, arm) in enumerate(arms.items()):
        shift = ((len(arms) - 1) / 2 - index) * 0.8 / len(arms)
        found = [arm["mean"], *(arm["structures"][structure] for structure in structures)]
        at = [(len(rows) - 1 - row + shift, each) for row, each in enumerate(found) if each["mean"] is not None]
        means = np.array([100 * each["mean"] for _, each in at])
        bounds = np.array([each["ci"] or (each["mean"], each["mean"]) for _, each in at])
        away = np.clip([means - 100 * bounds[:, 0], 100 * bounds[:, 1] - means], 0, None)
        marker = "o" if arm["control_kind"] is None else "x"
        axes.errorbar(means, [y for y, _ in at], xerr=away, fmt=marker, markersize=5, capsize=2, label=name)
    axes.set_yticks(range(len(rows)), rows[::-1])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 100)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("Dice in percent, 95 % interval over subjects")
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path, format="png", dpi=110)
