"""Pairs of further keepers of `run.py`: of a teacher that segments, and of low field from mild to severe."""

from __future__ import annotations

import json
import shutil

from scipy.stats import qmc

from experiment.conditions import LABELLED_PAIRS, PAIRS, WIDE_PAIRS
from experiment.data import CHANNEL, FIELDS, HIGH_CHANNEL, WIDE_SEED, copied, simulated_folder, subjects
from experiment.settings import HIGH_FIELD, Places, Settings, Severity, Task
from nnunet_uhf.preprocessing.datasets.write import write_paired_dataset
from nnunet_uhf.preprocessing.low_field.presets import PROFILES

RATIOS = tuple(ratio for ratio in PROFILES if ratio <= 6)
"""Of the severities of one clean target: what `nnunet-uhf simulate` knows a slice profile for."""
NOISE, BIAS, CROP = 12.0, 0.5, 0.5
"""Ranges of the severities of one clean target; those of noise, bias field and cropped k-space begin at none."""


def write_labelled_pairs(places: Places) -> None:
    """The pairs for a keeper once more, with a teacher that segments by the labels of the task."""
    raw = places.out / "nnUNet_raw"
    shutil.rmtree(raw / LABELLED_PAIRS, ignore_errors=True)
    shutil.copytree(raw / PAIRS, raw / LABELLED_PAIRS)
    path = raw / LABELLED_PAIRS / "dataset.json"
    content = json.loads(path.read_text())
    content["uhf"]["teacher"] = "segmentation"
    path.write_text(json.dumps(content, indent=1))


def wide_severities(settings: Settings) -> list[Severity]:
    """Of the low-field images of every keeper subject: spread evenly over each of the four ranges."""
    spread = qmc.LatinHypercube(d=4, rng=WIDE_SEED).random(settings.wide_draws)  # each value from 0 to 1
    return [
        Severity(
            RATIOS[int(len(RATIOS) * ratio)],
            *(round(float(most * part), 2) for most, part in zip((NOISE, BIAS, CROP), others, strict=True)),
        )
        for ratio, *others in spread
    ]


def wide_simulations(settings: Settings) -> list[tuple[str, Severity, int]]:
    """As `simulations` has them: group, severity and seed of every folder."""
    return [("keeper", severity, WIDE_SEED + index) for index, severity in enumerate(wide_severities(settings))]


def write_wide_pairs(settings: Settings, task: Task, places: Places) -> None:
    """Every keeper subject at every severity, each with the same clean target."""
    raw, own = places.out / "nnUNet_raw", places.out / "wide_pairs"
    cases = subjects(settings, task, places)["keeper"]
    for folder in (raw / WIDE_PAIRS, own):
        shutil.rmtree(folder, ignore_errors=True)
    for kind in ("targets", "labels"):
        (own / kind).mkdir(parents=True)
    sources, targets, labels = {}, {}, {}
    for index, (group, severity, seed) in enumerate(wide_simulations(settings)):
        for case in cases:
            name = f"{case}_wide{index}"
            file = f"{case}.nii.gz"
            sources[name] = simulated_folder(places, group, severity, seed) / file
            targets[name] = copied(places.images(HIGH_FIELD) / group / file, own / "targets" / f"{name}.nii.gz")
            labels[name] = copied(places.labels(task) / file, own / "labels" / f"{name}.nii.gz")
    write_paired_dataset(
        raw / WIDE_PAIRS,
        sources=sources,
        targets=targets,
        labels=labels,
        label_names=task.names,
        source_channel=CHANNEL,
        target_channel=HIGH_CHANNEL,
        route="simulated",
        architecture={"base_features": settings.keeper_features, "preset": settings.keeper_preset},
        **FIELDS,
    )


def write_wide_split(settings: Settings, task: Task, places: Places) -> None:
    """Fold 0: the images of one subject are all in training or all in validation, a fifth of the subjects there."""
    cases = subjects(settings, task, places)["keeper"]
    held_out = max(1, len(cases) // 5)
    parts = {"train": cases[:-held_out], "val": cases[-held_out:]}
    fold = {
        part: sorted(f"{case}_wide{index}" for case in names for index in range(settings.wide_draws))
        for part, names in parts.items()
    }
    path = places.out / "nnUNet_preprocessed" / WIDE_PAIRS / "splits_final.json"
    path.write_text(json.dumps([fold], indent=1))
