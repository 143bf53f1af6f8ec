"""Data of `run.py`: who belongs to what, the raw datasets, slim plans, and the splits of all label counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from experiment.conditions import BOTH, HIGH, LOW, PAIRS
from experiment.settings import CONFIGURATION, HIGH_FIELD, PLANS, SEEDS, Places, Settings, Severity, Task
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.datasets.write import write_paired_dataset, write_segmentation_dataset

CHANNEL, HIGH_CHANNEL = "LF", "HF"
FIELDS = {"source_field_T": 0.36, "target_field_T": 3.0}
DRAWN_RATIOS, DRAWN_NOISE = (2, 3, 4), (1.0, 6.0)
"""From which the severities of `draws` are drawn: a wide range, the harder test severity beyond it."""
DRAW_SEED = 1000
WIDE_SEED = 2000
"""Seed of the first low-field image of a keeper subject for one clean target; the others follow."""


def subjects(settings: Settings, task: Task, places: Places) -> dict[str, list[str]]:
    """Disjoint cases by name: `keeper`, `pool` (what labels are drawn from), `held_out` (one), `test`."""
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (places.data / task.images).glob("*.nii.gz"))
    groups: dict[str, list[str]] = {}
    sizes = {
        "keeper": settings.keeper_subjects,
        "pool": settings.pool,
        "held_out": 1,
        "test": settings.test_subjects,
    }
    if sum(sizes.values()) > len(cases):
        raise UHFError(
            f"{places.data} has {len(cases)} subjects, the experiment asks for {sum(sizes.values())}: ask for fewer"
        )
    if max(settings.labels) > settings.pool:
        raise UHFError(
            f"{max(settings.labels)} labelled subjects cannot be drawn from a pool of {settings.pool} (--pool)"
        )
    start = 0
    for name, size in sizes.items():
        groups[name] = cases[start : start + size]
        start += size
    return groups


def copy_images(settings: Settings, task: Task, places: Places) -> None:
    """High-field images, a folder for each group: `simulate` works on folders."""
    for group, cases in subjects(settings, task, places).items():
        folder = places.images(HIGH_FIELD) / group
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for case in cases:
            shutil.copyfile(places.data / task.images / f"{case}.nii.gz", folder / f"{case}.nii.gz")
            if task.chosen:
                _write_chosen(task, places, case)
            if task.whole:
                _write_whole_mask(folder / f"{case}.nii.gz", places.masks / f"{case}.nii.gz")


def _write_chosen(task: Task, places: Places, case: str) -> None:
    """The label map of a case with the labels of the task alone."""
    loaded = nib.load(places.data / task.labels / f"{case}.nii.gz")
    stored = np.asarray(loaded.dataobj).astype(np.int64)
    table = np.zeros(max(int(stored.max()), *task.chosen) + 1, np.uint8)
    for value, number in task.chosen.items():
        table[value] = number
    places.labels(task).mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(table[stored], loaded.affine), places.labels(task) / f"{case}.nii.gz")


def _write_whole_mask(image: Path, mask: Path) -> None:
    """A mask of ones on the image's grid."""
    loaded = nib.load(image)
    mask.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones(loaded.shape, np.uint8), loaded.affine), mask)


def drawn_severities(settings: Settings) -> list[Severity]:
    """Of the simulated low-field images of a labelled high-field one."""
    rng = np.random.default_rng(DRAW_SEED)
    return [
        Severity(DRAWN_RATIOS[index % len(DRAWN_RATIOS)], round(float(rng.uniform(*DRAWN_NOISE)), 1))
        for index in range(settings.draws)
    ]


def simulations(settings: Settings) -> list[tuple[str, Severity, int]]:
    """Group, severity and seed of every folder of simulated images, the severity it is trained on first."""
    wanted = [(group, settings.trained, 0) for group in ("keeper", "pool", "held_out", "test")]
    wanted += [("test", severity, 0) for severity in settings.tests if severity != settings.trained]
    return wanted + [("pool", s, DRAW_SEED + index) for index, s in enumerate(drawn_severities(settings))]


def simulated_folder(places: Places, group: str, severity: Severity, seed: int) -> Path:
    """Where one folder of simulated images lies."""
    if seed >= WIDE_SEED:
        return places.images(f"wide_{seed - WIDE_SEED}_{severity.name}") / group
    return places.images(severity.name if not seed else f"draw_{seed - DRAW_SEED}_{severity.name}") / group


def write_datasets(settings: Settings, task: Task, places: Places) -> None:
    """Pairs for the keeper, and the segmentation datasets: labels on low-field images, on high-field ones, on both."""
    groups = subjects(settings, task, places)
    raw = places.out / "nnUNet_raw"
    raw.mkdir(exist_ok=True)
    labelled = [*groups["pool"], *groups["held_out"]]

    def labels_of(cases: list[str]) -> dict[str, Path]:
        return {case: places.labels(task) / f"{case}.nii.gz" for case in cases}

    def files(folder: Path, cases: list[str]) -> dict[str, Path]:
        return {case: folder / f"{case}.nii.gz" for case in cases}

    def low(group: str) -> dict[str, Path]:
        return files(simulated_folder(places, group, settings.trained, 0), groups[group])

    def high(group: str) -> dict[str, Path]:
        return files(places.images(HIGH_FIELD) / group, groups[group])

    for dataset in (PAIRS, LOW, HIGH, BOTH):
        shutil.rmtree(raw / dataset, ignore_errors=True)
    if not settings.keeper:
        write_paired_dataset(
            raw / PAIRS,
            sources=low("keeper"),
            targets=high("keeper"),
            labels=labels_of(groups["keeper"]),
            label_names=task.names,
            source_channel=CHANNEL,
            target_channel=HIGH_CHANNEL,
            route="simulated",
            architecture={"base_features": settings.keeper_features, "preset": settings.keeper_preset},
            **FIELDS,
        )
    write_segmentation_dataset(
        raw / LOW,
        channels={CHANNEL: {**low("keeper"), **low("pool"), **low("held_out")}},
        labels=labels_of([*groups["keeper"], *labelled]),
        label_names=task.names,
    )
    write_segmentation_dataset(
        raw / BOTH,
        channels={
            CHANNEL: {**low("pool"), **low("held_out")},
            HIGH_CHANNEL: {**high("pool"), **high("held_out")},
        },
        labels=labels_of(labelled),
        label_names=task.names,
    )
    drawn_labels = places.out / "draw_labels"
    drawn_labels.mkdir(exist_ok=True)
    images, labels = {**high("pool"), **high("held_out")}, labels_of(labelled)
    for index, severity in enumerate(drawn_severities(settings)):
        folder = simulated_folder(places, "pool", severity, DRAW_SEED + index)
        images |= {f"{case}_draw{index}": folder / f"{case}.nii.gz" for case in groups["pool"]}
        labels |= {
            f"{case}_draw{index}": copied(path, drawn_labels / f"{case}_draw{index}.nii.gz")
            for case, path in labels_of(groups["pool"]).items()
        }
    write_segmentation_dataset(raw / HIGH, channels={CHANNEL: images}, labels=labels, label_names=task.names)


def write_keeper_fold(settings: Settings, task: Task, places: Places) -> None:
    """One more fold of LOW, of the keeper's subjects alone: for pretraining without labels."""
    groups = subjects(settings, task, places)
    path = places.out / "nnUNet_preprocessed" / LOW / "splits_final.json"
    folds = json.loads(path.read_text())[: settings.keeper_fold]
    path.write_text(json.dumps([*folds, {"train": groups["keeper"], "val": groups["held_out"]}], indent=1))


def write_privileged(places: Places) -> None:
    """BOTH says which of its channels is high field, for a trainer that hears it and predicts without."""
    for kind in ("nnUNet_raw", "nnUNet_preprocessed"):
        path = places.out / kind / BOTH / "dataset.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "uhf": {"privileged": HIGH_CHANNEL}}, indent=1))


def copied(source: Path, target: Path) -> Path:
    """A copy under another name: no two cases of a dataset may share a file."""
    return Path(shutil.copyfile(source, target))


def write_test_images(settings: Settings, task: Task, places: Places) -> None:
    """Every test subject at every severity in one folder for each dataset: one command predicts them all."""
    cases = subjects(settings, task, places)["test"]
    folders = {severity.name: simulated_folder(places, "test", severity, 0) for severity in settings.tests}
    folders[HIGH_FIELD] = places.images(HIGH_FIELD) / "test"
    for dataset in (LOW, HIGH, BOTH):
        target = places.test_images(dataset)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in settings.tested(dataset):
            for case in cases:
                shutil.copyfile(folders[name] / f"{case}.nii.gz", target / f"{case}_{name}_0000.nii.gz")
                if dataset == BOTH:
                    shutil.copyfile(folders[HIGH_FIELD] / f"{case}.nii.gz", target / f"{case}_{name}_0001.nii.gz")


def patch_of(median: list[float], stages: int) -> list[int]:
    """The whole slice of the median image, in steps of the coarsest stage: no tiles, so prediction is cheap."""
    step = 2 ** (stages - 1)
    return [int(-(-size // step) * step) for size in median]


def write_plans(settings: Settings, places: Places, datasets: Sequence[str]) -> None:
    """Plans of datasets with a slim 2d network beside nnU-Net's own; the preprocessed data stay the same."""
    stages = len(settings.features)
    for dataset in datasets:
        folder = places.out / "nnUNet_preprocessed" / dataset
        plans: dict[str, Any] = json.loads((folder / "nnUNetPlans.json").read_text())
        configuration = plans["configurations"][CONFIGURATION]
        patch = patch_of(configuration["median_image_size_in_voxels"], stages)
        configuration.update(patch_size=patch, batch_size=settings.batch)
        configuration["architecture"]["arch_kwargs"].update(
            n_stages=stages,
            features_per_stage=list(settings.features),
            strides=[[1, 1], *[[2, 2]] * (stages - 1)],
            kernel_sizes=[[3, 3]] * stages,
            n_conv_per_stage=[2] * stages,
            n_conv_per_stage_decoder=[2] * (stages - 1),
        )
        plans["plans_name"] = PLANS
        (folder / f"{PLANS}.json").write_text(json.dumps(plans, indent=4))


def training_cases(pool: list[str], labels: int, seed: int) -> list[str]:
    """The labelled subjects of one seed: a few are always among the many."""
    order = np.random.default_rng(seed).permutation(len(pool))
    return sorted(pool[index] for index in order[:labels])


def write_splits(settings: Settings, task: Task, places: Places) -> None:
    """splits_final.json of both datasets: a fold is a label count and a seed; its one validation case decides nothing.

    HIGH has the folds of the images themselves and behind them those of their draws, LOW behind them those with the
    keeper's subjects, too (:meth:`Settings.fold`).
    """
    groups = subjects(settings, task, places)
    images, draws, everybody = [], [], []
    for seed in range(SEEDS):
        for labels in settings.labels:
            cases = training_cases(groups["pool"], labels, seed)
            drawn = [f"{case}_draw{index}" for case in cases for index in range(settings.draws)]
            images.append({"train": cases, "val": groups["held_out"]})
            draws.append({"train": drawn, "val": groups["held_out"]})
            everybody.append({"train": sorted([*cases, *groups["keeper"]]), "val": groups["held_out"]})
    for dataset, folds in ((LOW, images + everybody), (HIGH, images + draws), (BOTH, images)):
        path = places.out / "nnUNet_preprocessed" / dataset / "splits_final.json"
        path.write_text(json.dumps(folds, indent=1))
