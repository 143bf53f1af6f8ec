"""The chain a user would type, as stages: nnU-Net's own commands and those of nnunet-uhf."""

from __future__ import annotations

import os
from collections.abc import Callable

from nnunet_uhf.demo import prepare
from nnunet_uhf.demo.settings import (
    CONFIGURATIONS,
    FOLD,
    GUIDED,
    KEEPER,
    MODELS,
    PAIRS_ID,
    PLAIN,
    PLANS,
    TEACHER,
    TISSUES_DATASET,
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
MODEL_TRAINERS = {"plain": PLAIN, "guided": GUIDED}
# Background augmentation workers cost more than they bring on small images.
TRAINING_ENVIRONMENT = {"nnUNet_n_proc_DA": "0"}
DESCRIPTIONS = {
    "teacher": "teacher {}: rebuilds high-field images",
    "keeper": "keeper {}: learns the teacher's features from low field",
    "plain": "plain nnU-Net {}",
    "guided": "guided nnU-Net {}",
}


def environment(folders: Folders) -> dict[str, str]:
    """Environment of all child processes: nnU-Net's folders inside the demo folder, few worker processes."""
    variables = {
        **os.environ,
        "nnUNet_raw": str(folders.raw),
        "nnUNet_preprocessed": str(folders.preprocessed),
        "nnUNet_results": str(folders.results),
        KEEPER_VARIABLE: str(folders.keepers),
        "nnUNet_def_n_proc": "1",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_compile": "f",
        "nnUNet_wandb_enabled": "0",
        "PYTHONUNBUFFERED": "1",
        # Threads that spin while they wait make a training many times slower as soon as the computer has other work.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
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
    plan = [
        "nnUNetv2_plan_and_preprocess", "-d", str(PAIRS_ID), str(TISSUES_ID), "-c", *CONFIGURATIONS,
        "-npfp", "1", "-np", *["1"] * len(CONFIGURATIONS),
    ]  # fmt: skip
    stages = [
        Stage("phantoms", "phantom subjects", function=lambda: prepare.write_phantoms(settings, folders)),
        Stage("low_field", "low-field images", tuple(low_field)),
        Stage("datasets", "raw nnU-Net datasets", function=lambda: prepare.write_datasets(settings, folders)),
        Stage("plan", "plan and preprocess", tuple(plan)),
        Stage("small_plans", "small network plans", function=lambda: prepare.write_small_plans(settings, folders)),
    ]

    def train(role: str, trainer: str, dataset: int, configuration: str) -> Stage:
        name = settings.trainer(trainer)
        command = ("nnUNetv2_train", str(dataset), configuration, FOLD, "-tr", name, "-p", PLANS, "-device", device)
        title = DESCRIPTIONS[role].format(configuration)
        # plain and guided start from the same weights and see the same samples: their difference is no matter of luck
        variables = {**TRAINING_ENVIRONMENT, SEED_VARIABLE: str(settings.seed)}
        return Stage(f"{role}_{configuration}", title, command, None, variables, epochs_of(name))

    for configuration in CONFIGURATIONS:
        stages += [
            train("teacher", TEACHER, PAIRS_ID, configuration),
            train("keeper", KEEPER, PAIRS_ID, configuration),
            _export(settings, folders, configuration),
            _enhance(folders, configuration, device),
        ]
    for configuration in CONFIGURATIONS:
        for model in MODELS:
            trainer = MODEL_TRAINERS[model]
            stages.append(train(model, trainer, TISSUES_ID, configuration))
            stages.append(_predict(settings, folders, model, configuration, device))
    for model in MODELS:
        stages.append(_ensemble(folders, model))
        for configuration in (*CONFIGURATIONS, "ensemble"):
            stages.append(_evaluate(settings, folders, model, configuration))
    return stages


def _export(settings: DemoSettings, folders: Folders, configuration: str) -> Stage:
    command = (
        "nnunet-uhf", "export-keeper", "-d", str(PAIRS_ID), "-c", configuration, "-f", FOLD, "-p", PLANS,
        "-tr", settings.trainer(KEEPER), "-o", str(folders.keeper(configuration)), "--overwrite",
    )  # fmt: skip
    return Stage(f"export_{configuration}", f"keeper file {configuration}", command)


def _enhance(folders: Folders, configuration: str, device: str) -> Stage:
    command = (
        "nnunet-uhf", "enhance", "-i", str(folders.test_images), "-o", str(folders.enhanced(configuration)),
        "-m", str(folders.keeper(configuration)), "-device", device,
    )  # fmt: skip
    return Stage(f"enhance_{configuration}", f"enhanced held-out images {configuration}", command)


def _predict(settings: DemoSettings, folders: Folders, model: str, configuration: str, device: str) -> Stage:
    command = (
        "nnUNetv2_predict", "-i", str(folders.test_images), "-o", str(folders.prediction(model, configuration)),
        "-d", str(TISSUES_ID), "-c", configuration, "-f", FOLD, "-tr", settings.trainer(MODEL_TRAINERS[model]),
        "-p", PLANS, "--save_probabilities", "--disable_tta", "-npp", "1", "-nps", "1", "-device", device,
    )  # fmt: skip
    return Stage(f"predict_{model}_{configuration}", f"held-out segmentations, {model} {configuration}", command)


def _ensemble(folders: Folders, model: str) -> Stage:
    members = [str(folders.prediction(model, configuration)) for configuration in CONFIGURATIONS]
    output = str(folders.prediction(model, "ensemble"))
    command = ("nnUNetv2_ensemble", "-i", *members, "-o", output, "-np", "1")
    return Stage(f"ensemble_{model}", f"ensemble of {' and '.join(CONFIGURATIONS)}, {model}", command)


def _evaluate(settings: DemoSettings, folders: Folders, model: str, configuration: str) -> Stage:
    predicted = folders.prediction(model, configuration)
    trainer = settings.trainer(MODEL_TRAINERS[model])
    plans = folders.model(TISSUES_DATASET, trainer, CONFIGURATIONS[0]).plans_file
    command = (
        "nnUNetv2_evaluate_folder", str(folders.test_labels), str(predicted),
        "-djfile", str(folders.raw / TISSUES_DATASET / "dataset.json"), "-pfile", str(plans), "-np", "1",
    )  # fmt: skip
    return Stage(f"evaluate_{model}_{configuration}", f"Dice, {model} {configuration}", command)
