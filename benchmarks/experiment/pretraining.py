"""Stages of `run.py` that all seeds share: simulation, plans, keepers and the masked autoencoder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence

from experiment.conditions import (
    CONDITIONS,
    HF_KEEPER,
    KEEPERS,
    LABELLED_PAIRS,
    LOW,
    MASKED_START,
    PAIRS,
    SAME_KEEPER,
    WIDE_PAIRS,
)
from experiment.data import simulated_folder, write_keeper_fold, write_plans, write_privileged
from experiment.pairs import wide_simulations, write_labelled_pairs, write_wide_pairs, write_wide_split
from experiment.settings import CONFIGURATION, HIGH_FIELD, MASKED_TRAINER, PLANS, Places, Settings, Severity, Task
from nnunet_uhf.stages import Stage

PRETRAINING_ITERATIONS = 250


def number(dataset: str) -> str:
    """A dataset's number, for -d."""
    return dataset[len("Dataset") :][:3]


def simulated(task: Task, places: Places, group: str, severity: Severity, seed: int) -> Stage:
    """One folder of simulated low-field images."""
    folder = simulated_folder(places, group, severity, seed)
    command = (
        "nnunet-uhf", "simulate", "-i", str(places.images(HIGH_FIELD) / group), "-o", str(folder), *task.tissues,
        *(("--masks", str(places.masks)) if task.whole else ()),
        "--preset", "t1w_0.36T_probable", *severity.options, "--mode", "regrid", "--seed", str(seed),
    )  # fmt: skip
    key = f"simulate_{folder.parent.name}_{group}"
    return Stage(key, f"simulated 0.36 T, {folder.parent.name}, {group}", command)


def planned(key: str, datasets: Sequence[str]) -> Stage:
    """Plan and preprocess datasets."""
    command = (
        "nnUNetv2_plan_and_preprocess", "-d", *map(number, datasets), "-c", CONFIGURATION, "-npfp", "1", "-np", "1",
    )  # fmt: skip
    return Stage(key, "plan and preprocess", command)


def pretrained(settings: Settings, task: Task, places: Places, wanted: Sequence[str], device: str) -> list[Stage]:
    """Keepers and the masked autoencoder, as far as the conditions need them; each with its data before it."""
    chosen = [CONDITIONS[name] for name in wanted]
    keepers = {name: KEEPERS[name] for name in KEEPERS if any(one.keeper == name for one in chosen)}
    given = {HF_KEEPER: settings.keeper, SAME_KEEPER: settings.same_field_keeper}
    stages: list[Stage] = []
    for dataset in (PAIRS, LABELLED_PAIRS, WIDE_PAIRS):
        of_it = [name for name, one in keepers.items() if one.dataset == dataset]
        if of_it and dataset != PAIRS:
            stages += further_pairs(settings, task, places, dataset)
        for name in of_it:
            if given.get(name):
                stages.append(taken(places, name, given[name]))
            else:
                stages += keeper_of(settings, places, name, device)
    if any(name == "privileged" for name in wanted):
        stages.append(Stage("privileged", "high field as a privilege", function=lambda: write_privileged(places)))
    if any(one.starts_from == MASKED_START for one in chosen):
        stages.append(
            Stage("keeper_fold", "keeper subjects alone", function=lambda: write_keeper_fold(settings, task, places))
        )
        epochs = 2 * settings.pretraining_epochs  # as long as teacher and keeper together
        stages.append(trained(settings, "masked", LOW, MASKED_TRAINER, settings.keeper_fold, epochs, device))
    return stages


def further_pairs(settings: Settings, task: Task, places: Places, dataset: str) -> Iterator[Stage]:
    """The pairs of keepers of another kind, planned; those of the high-field keeper are there already."""

    def stage(key: str, title: str, function: Callable[[], None]) -> Stage:
        return Stage(key, title, function=function)

    if dataset == LABELLED_PAIRS:
        yield stage("labelled_pairs", "pairs for a teacher that segments", lambda: write_labelled_pairs(places))
        kind = "labelled_pairs"
    else:
        for one in wide_simulations(settings):
            yield simulated(task, places, *one)
        kind = "wide_pairs"
        yield stage(kind, "pairs from mild to severe", lambda: write_wide_pairs(settings, task, places))
    yield planned(f"plan_{kind}", [dataset])
    yield stage(f"plans_{kind}", "slim plans", lambda: write_plans(settings, places, [dataset]))
    if dataset == WIDE_PAIRS:
        yield stage("split_wide_pairs", "a split by subjects", lambda: write_wide_split(settings, task, places))


def taken(places: Places, name: str, given: str) -> Stage:
    """A keeper file that was made elsewhere."""

    def take() -> None:
        places.keeper(name).parent.mkdir(exist_ok=True)
        shutil.copyfile(given, places.keeper(name))

    return Stage(f"file_{name}", f"the keeper that was given: {given}", function=take)


def keeper_of(settings: Settings, places: Places, name: str, device: str) -> Iterator[Stage]:
    """Teacher, keeper and export; a keeper without a teacher is trained as long as both."""
    dataset, trainers = KEEPERS[name].dataset, KEEPERS[name].trainers
    for role, trainer in trainers.items():
        epochs = 2 * settings.pretraining_epochs // len(trainers)
        yield trained(settings, f"{role}_{name}", dataset, trainer, 0, epochs, device)
    export = (
        "nnunet-uhf", "export-keeper", "-d", number(dataset), "-c", CONFIGURATION, "-f", "0", "-p", PLANS,
        "-tr", trainers["keeper"], "-o", str(places.keeper(name)), "--overwrite",
    )  # fmt: skip
    yield Stage(f"file_{name}", f"keeper file {name}", export)


def trained(settings: Settings, key: str, dataset: str, trainer: str, fold: int, epochs: int, device: str) -> Stage:
    """A training that all seeds share."""
    length = {
        "UHF_EXPERIMENT_EPOCHS": str(epochs),
        "UHF_EXPERIMENT_ITERATIONS": str(PRETRAINING_ITERATIONS),
        "UHF_EXPERIMENT_LANE": settings.lane,
        "UHF_EXPERIMENT_SEED": str(settings.keeper_seed),
        **({"nnUNet_n_proc_DA": "0"} if settings.lane == "resident" else {}),
    }
    command = (
        "nnUNetv2_train", number(dataset), CONFIGURATION, str(fold), "-tr", trainer, "-p", PLANS, "-device", device,
    )  # fmt: skip
    return Stage(key, key.replace("_", " ", 1), command, None, length, epochs)
