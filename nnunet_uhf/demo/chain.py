"""The chain a user would type, as stages: nnU-Net's own commands and those of nnunet-uhf."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from nnunet_uhf.demo import prepare
from nnunet_uhf.demo.settings import (
    FOLD,
    KEEPER,
    MODEL_TRAINERS,
    MODELS,
    NAMES,
    PAIRS_ID,
    PLANS,
    TEACHER,
    TISSUES_ID,
    DemoSettings,
    Folders,
)
from nnunet_uhf.guidance.keeper_files import KEEPER_VARIABLE
from nnunet_uhf.guidance.matching import GUIDE_CHANNEL_VARIABLE
from nnunet_uhf.installation.trainer_path import OPT_OUT_VARIABLE, add_trainers
from nnunet_uhf.networks.presets import PRESET_VARIABLE
from nnunet_uhf.stages import Stage
from nnunet_uhf.trainers.seeded import SEED_VARIABLE

PRESET = "t1w_0.36T_probable"
SIDE_BY_SIDE = 2
"""Stages at a time on a CPU: starting a command is work for one core."""
# Background augmentation workers cost more than they bring on small images; planning cannot do with none.
WITHOUT_WORKERS = {"nnUNet_n_proc_DA": "0"}
DESCRIPTIONS = {
    "teacher": "teacher {}: rebuilds high-field images",
    "keeper": "keeper {}: learns the teacher's features from low field",
    **{model: f"{name} {{}}" for model, name in NAMES.items()},
}
PLANNING = {"plan_pairs": (PAIRS_ID, "pairs"), "plan_tissues": (TISSUES_ID, "labelled scans")}
"""Dataset and what it is, by the stage that plans it."""
PREPARED = ("phantoms", "low_field", "datasets", *PLANNING, "small_plans")


def settings_of_shell(folders: Folders) -> dict[str, str]:
    """What the commands read from the environment: nnU-Net's folders inside the demo folder, few worker processes."""
    return {
        "nnUNet_raw": str(folders.raw),
        "nnUNet_preprocessed": str(folders.preprocessed),
        "nnUNet_results": str(folders.results),
        KEEPER_VARIABLE: str(folders.keepers),
        "nnUNet_def_n_proc": "1",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_compile": "f",
        "nnUNet_wandb_enabled": "0",
        # Threads that spin while they wait make a training many times slower as soon as the computer has other work.
        "OMP_WAIT_POLICY": "PASSIVE",
        # Networks this small gain nothing from more, and two stages run side by side.
        "OMP_NUM_THREADS": "1",
    }


def environment(folders: Folders) -> dict[str, str]:
    """Environment of all child processes."""
    variables = {**os.environ, **settings_of_shell(folders), "PYTHONUNBUFFERED": "1"}
    # The demo shows the package at work whatever the user chose for other work in this shell.
    for name in (OPT_OUT_VARIABLE, GUIDE_CHANNEL_VARIABLE, PRESET_VARIABLE):
        variables.pop(name, None)
    add_trainers(variables)
    return variables


def build_stages(
    settings: DemoSettings, folders: Folders, *, device: str, epochs_of: Callable[[str], int]
) -> list[Stage]:
    """All stages but the report, in order. `epochs_of` tells how long the trainer of a name trains."""
    low_field = [
        "nnunet-uhf", "simulate", "-i", str(folders.phantoms("high_field")), "-o", str(folders.phantoms("low_field")),
        "--labels", str(folders.phantoms("labels")), "--preset", PRESET, "--ratio", str(settings.ratio),
        "--noise-scale", str(settings.noise_scale), "--noise-mask", "brain", "--mode", "regrid",
        "--seed", str(settings.seed),
    ]  # fmt: skip
    stages = [
        Stage("phantoms", "phantom subjects", function=lambda: prepare.write_phantoms(settings, folders)),
        Stage("low_field", "low-field images", tuple(low_field)),
        Stage("datasets", "raw nnU-Net datasets", function=lambda: prepare.write_datasets(settings, folders)),
        *(_plan(settings, key) for key in PLANNING),
        Stage("small_plans", "small network plans", function=lambda: prepare.write_small_plans(settings, folders)),
    ]

    def train(role: str, trainer: str, dataset: int, configuration: str, after: tuple[str, ...]) -> Stage:
        name = settings.trainer(trainer)
        command = ("nnUNetv2_train", str(dataset), configuration, FOLD, "-tr", name, "-p", PLANS, "-device", device)
        title = DESCRIPTIONS[role].format(configuration)
        # plain and guided start from the same weights and see the same samples: their difference is no matter of luck
        variables = {**WITHOUT_WORKERS, SEED_VARIABLE: str(settings.seed)}
        return Stage(f"{role}_{configuration}", title, command, None, variables, epochs_of(name), after)

    # the larger networks first: what runs beside them is then done in time
    larger_first = settings.configurations[::-1]
    for configuration in larger_first:
        stages += [
            train("teacher", TEACHER, PAIRS_ID, configuration, PREPARED),
            train("keeper", KEEPER, PAIRS_ID, configuration, (f"teacher_{configuration}",)),
            _export(settings, folders, configuration),
        ]
    for configuration in larger_first:
        for model in MODELS:
            needed = PREPARED if model == "plain" else (f"export_{configuration}",)
            stages.append(train(model, MODEL_TRAINERS[model], TISSUES_ID, configuration, needed))
    stages.append(_enhance(settings, folders, device))
    for configuration in larger_first:
        stages += [_predict(settings, folders, model, configuration, device) for model in MODELS]
    stages += [_compare(folders, configuration) for configuration in settings.configurations]
    return stages


def _plan(settings: DemoSettings, key: str) -> Stage:
    # a command for each dataset, so that both cores have something to do
    dataset, what = PLANNING[key]
    command = (
        "nnUNetv2_plan_and_preprocess", "-d", str(dataset), "-c", *settings.configurations,
        "-npfp", "1", "-np", *["1"] * len(settings.configurations),
    )  # fmt: skip
    return Stage(key, f"plan and preprocess {what}", command, after=("datasets",))


def _export(settings: DemoSettings, folders: Folders, configuration: str) -> Stage:
    command = (
        "nnunet-uhf", "export-keeper", "-d", str(PAIRS_ID), "-c", configuration, "-f", FOLD, "-p", PLANS,
        "-tr", settings.trainer(KEEPER), "-o", str(folders.keeper(configuration)), "--overwrite",
        "--accept-worse",  # the page shows how good it is, whatever that turns out to be
    )  # fmt: skip
    return Stage(f"export_{configuration}", f"keeper file {configuration}", command, after=(f"keeper_{configuration}",))


def _enhance(settings: DemoSettings, folders: Folders, device: str) -> Stage:
    configuration = settings.shown
    command = (
        "nnunet-uhf", "enhance", "-i", str(folders.test_images), "-o", str(folders.enhanced(configuration)),
        "-m", str(folders.keeper(configuration)), "-device", device,
    )  # fmt: skip
    return Stage("enhance", "enhanced held-out images", command, after=(f"export_{configuration}",))


def _predict(settings: DemoSettings, folders: Folders, model: str, configuration: str, device: str) -> Stage:
    # without worker processes: starting them takes longer than four small images
    command = (
        "nnUNetv2_predict", "-i", str(folders.test_images), "-o", str(folders.prediction(model, configuration)),
        "-d", str(TISSUES_ID), "-c", configuration, "-f", FOLD, "-tr", settings.trainer(MODEL_TRAINERS[model]),
        "-p", PLANS, "--disable_tta", "-npp", "0", "-nps", "0", "-device", device,
    )  # fmt: skip
    title = f"held-out segmentations, {NAMES[model]} {configuration}"
    return Stage(f"predict_{model}_{configuration}", title, command, after=(f"{model}_{configuration}",))


def _compare(folders: Folders, configuration: str) -> Stage:
    predictions = [str(folders.prediction(model, configuration)) for model in MODELS]
    command = (
        "nnunet-uhf", "compare", "-pred", *predictions, "-names", *(NAMES[model] for model in MODELS),
        "-ref", str(folders.test_labels), "-i", str(folders.test_images), "-o", str(folders.comparison(configuration)),
        "-np", "1",
    )  # fmt: skip
    predicted = tuple(f"predict_{model}_{configuration}" for model in MODELS)

    def make_room() -> None:  # `compare` overwrites nothing, and a stage may be run again
        shutil.rmtree(folders.comparison(configuration), ignore_errors=True)

    return Stage(f"compare_{configuration}", f"comparison {configuration}", command, make_room, after=predicted)
