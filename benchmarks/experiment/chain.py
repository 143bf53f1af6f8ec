"""The stages of `run.py`, from the data to the last training, in order."""

from __future__ import annotations

from collections.abc import Sequence

from experiment.conditions import with_needed
from experiment.data import copy_images, simulations, write_datasets, write_plans, write_splits, write_test_images
from experiment.pretraining import planned, pretrained, simulated
from experiment.runs import run_of
from experiment.settings import Places, Settings, Task
from experiment.workers import Work, here
from nnunet_uhf.stages import Stage


def chain(
    settings: Settings,
    task: Task,
    places: Places,
    *,
    conditions: Sequence[str],
    seeds: Sequence[int],
    device: str,
    work: Work = here,
) -> list[Stage]:
    """All stages, in order; seed by seed, so that a stopped run leaves whole seeds; a training waits for its own."""
    wanted = with_needed(conditions)
    stages = [Stage("images", "subjects", function=lambda: copy_images(settings, task, places))]
    stages += [simulated(task, places, *one) for one in simulations(settings)]
    stages += [
        Stage("datasets", "raw datasets", function=lambda: write_datasets(settings, task, places)),
        Stage("tests", "test images", function=lambda: write_test_images(settings, task, places)),
        planned("plan", settings.datasets),
        Stage("plans", "slim plans", function=lambda: write_plans(settings, places, settings.datasets)),
        Stage("splits", "splits of all label counts", function=lambda: write_splits(settings, task, places)),
    ]
    stages += pretrained(settings, task, places, wanted, device)
    shared = [stage.key for stage in stages]
    for seed in seeds:
        for labels in settings.labels:
            for name in wanted:
                stages += run_of(settings, task, places, name, labels, seed, device=device, after=shared, work=work)
    return stages
