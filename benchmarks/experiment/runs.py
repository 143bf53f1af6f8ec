"""Stages of `run.py` of one seed: a training and its predictions, behind what labels its keeper subjects."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder of the benchmarks, as for those beside it

import commands

from experiment.conditions import CONDITIONS, MASKED_START
from experiment.pseudo import label_keeper_subjects, roots
from experiment.resident import forget_peak, peak_bytes
from experiment.settings import CONFIGURATION, PLANS, Places, Settings, Task
from experiment.starts import START_VARIABLE
from experiment.training import logged, train_and_predict
from experiment.workers import Work
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.stages import Stage
from nnunet_uhf.trainers.guided.privileged import TEACHER_VARIABLE
from nnunet_uhf.trainers.seeded import SEED_VARIABLE

TRAINERS = Path(__file__).parent / "trainers"


def environment(places: Places) -> dict[str, str]:
    """Environment of the commands: the experiment's trainers registered, the reference preset by default."""
    return commands.environment(places.out, processes=1, trainers=TRAINERS, nnUNet_UHF_PRESET="reference")


def run_of(
    settings: Settings,
    task: Task,
    places: Places,
    name: str,
    labels: int,
    seed: int,
    *,
    device: str,
    after: Sequence[str],
    work: Work,
) -> Iterator[Stage]:
    """Training and prediction of one condition, behind what labels its keeper subjects.

    Args:
        settings: of the run.
        task: of the run.
        places: of the run.
        name: of the condition.
        labels: labelled subjects.
        seed: of draws and weights.
        device: cpu or cuda.
        after: keys of the stages before all trainings.
        work: runs a training.
    """
    arguments = (settings, task, places, name, labels, seed, device)
    needed = (*after, *(f"run_{one}_{labels}_{seed}" for one in CONDITIONS[name].needs))
    of_run = f"{name}, {labels} labels, seed {seed}"
    if source := CONDITIONS[name].labelled_by:
        key = f"labels_{name}_{labels}_{seed}"
        yield Stage(key, f"labels by {source}, {of_run}", function=lambda: work(label, *arguments), after=needed)
        needed = (*needed, key)
    key = f"run_{name}_{labels}_{seed}"
    yield Stage(key, of_run, function=lambda: work(train, *arguments), after=needed)


def label(settings: Settings, task: Task, places: Places, name: str, labels: int, seed: int, device: str) -> None:
    """Have the model that a condition names label the keeper subjects."""
    source = CONDITIONS[name].labelled_by
    with logged(
        places.out / "logs" / f"labels_{name}_{labels}_{seed}.log",
        variables(settings, task, places, source, labels, seed),
    ):
        label_keeper_subjects(settings, task, places, source=source, labels=labels, seed=seed, device=device)


def variables(settings: Settings, task: Task, places: Places, name: str, labels: int, seed: int) -> dict[str, str]:
    """Environment of the training of a condition."""
    condition = CONDITIONS[name]
    start = ""
    if condition.starts_from == MASKED_START:
        start = str(places.masked)
    elif condition.starts_from:
        first = CONDITIONS[condition.starts_from]
        results = places.results(condition.starts_from, seed)
        start = str(ModelFolder.of(first.dataset, first.trainer, PLANS, CONFIGURATION, results=results).path)
    return {
        **environment(places),
        **(roots(places.pseudo(condition.labelled_by, labels, seed)) if condition.labelled_by else {}),
        "nnUNet_results": str(places.results(name, seed)),
        "nnUNet_n_proc_DA": "0",
        "UHF_EXPERIMENT_SEED": str(seed),
        SEED_VARIABLE: str(seed),
        "UHF_EXPERIMENT_EPOCHS": str(settings.epochs),
        "UHF_EXPERIMENT_ITERATIONS": str(settings.iterations // settings.epochs),
        "UHF_EXPERIMENT_LEARNING_RATE": str(settings.learning_rate),
        "UHF_EXPERIMENT_MIRRORING": str(int(task.mirrored)),
        "UHF_EXPERIMENT_LANE": settings.lane,
        "UHF_EXPERIMENT_TEACHER": str(places.teacher),
        "UHF_EXPERIMENT_MASKED_FOLD": str(settings.keeper_fold),
        START_VARIABLE: start,
        TEACHER_VARIABLE: str(places.teacher),
        "nnUNet_UHF_KKN": str(places.keeper(condition.keeper)) if condition.keeper else "",
        **dict(condition.variables),
    }


def train(settings: Settings, task: Task, places: Places, name: str, labels: int, seed: int, device: str) -> None:
    """Training and prediction of one condition; a line in runs.jsonl says what they took."""
    condition, place = CONDITIONS[name], torch.device(device)
    forget_peak(place)
    began = time.monotonic()
    log = places.out / "logs" / f"run_{name}_{labels}_{seed}.log"
    with logged(log, variables(settings, task, places, name, labels, seed)):
        train_and_predict(
            dataset=condition.dataset,
            configuration=CONFIGURATION,
            fold=settings.fold(condition, labels, seed),
            trainer=condition.trainer,
            plans=PLANS,
            images=places.test_images(condition.test_images),
            output=places.prediction(name, labels, seed),
            device=device,
        )
    line = {
        "condition": name, "labels": labels, "seed": seed, "lane": settings.lane, "device": device,
        "seconds": round(time.monotonic() - began, 1), "peak_bytes": peak_bytes(place),
    }  # fmt: skip
    with (places.out / "runs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
