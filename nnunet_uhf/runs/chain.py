"""The commands of a run, in order: nnU-Net's own and those of nnunet-uhf, and what of them is done already."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from nnunet_uhf.guidance.keeper_files import KEEPER_VARIABLE
from nnunet_uhf.nnunet.files import root_folder
from nnunet_uhf.nnunet.model_folder import FoldFolder, ModelFolder, Progress
from nnunet_uhf.runs.present import is_preprocessed, is_segmented, plans_file
from nnunet_uhf.runs.settings import DEFAULT_PLANS, KEEPER_EPOCHS, TRAINERS, RunFolders, RunSettings
from nnunet_uhf.stages import Stage
from nnunet_uhf.trainers.seeded import SEED_VARIABLE

Part = Literal["prepare", "train", "finish"]
PARTS: tuple[Part, ...] = get_args(Part)
MEANING: dict[Part, str] = {
    "prepare": "one after the other",
    "train": "in any order, also at the same time",
    "finish": "once all trainings are done, one after the other",
}


@dataclass(frozen=True)
class Step:
    """A stage, the part of the run that it belongs to, and whether its result is there, whoever made it.

    Attributes:
        part: of the run.
        stage: command, log, title.
        done: whether its files are there.
        certain: files that are there are whole; else the run's own record has to say so, too.
    """

    part: Part
    stage: Stage
    done: Callable[[], bool]
    certain: bool = True

    def line(self) -> str:
        """The command as it is typed, with its variables."""
        variables = (f"{name}={shlex.quote(value)}" for name, value in self.stage.environment.items())
        return " ".join([*variables, shlex.join(self.stage.command)])


def steps_of(settings: RunSettings, folders: RunFolders, *, device: str, gpus: int = 1) -> list[Step]:
    """All steps. Trainings that were begun go on; steps whose results are there are done.

    Args:
        settings: of the run.
        folders: of the run.
        device: nnU-Net's: cpu, cuda or mps.
        gpus: of one machine, for each training, by nnU-Net's own DDP.
    """
    return [*_preparation(settings, folders, device), *_trainings(settings, folders, device, gpus)] + [
        step for configuration in settings.configurations for step in _ending(settings, folders, configuration, device)
    ]


def _preparation(settings: RunSettings, folders: RunFolders, device: str) -> list[Step]:
    steps = []
    datasets = [(settings.dataset, settings.plans, settings.configurations)]
    if settings.pairs is not None:
        datasets.append((settings.pairs, DEFAULT_PLANS, settings.keeper_configurations))
    for dataset, plans, configurations in datasets:
        steps.append(_planning(dataset, plans))
        steps += [_preprocessing(dataset, plans, configuration) for configuration in configurations]
    if settings.pairs is not None:
        steps += [_keeper(settings, folders, each, device) for each in settings.keeper_configurations]
    return steps


def _planning(dataset: str, plans: str) -> Step:
    command = (
        "nnUNetv2_plan_and_preprocess", "-d", _number(dataset), "--verify_dataset_integrity", "--no_pp",
    )  # fmt: skip
    return Step(
        "prepare",
        Stage(f"plan_{dataset}", f"plans of {dataset}", command),
        lambda: plans_file(dataset, plans).is_file(),
    )


def _preprocessing(dataset: str, plans: str, configuration: str) -> Step:
    command = ("nnUNetv2_preprocess", "-d", _number(dataset), "-plans_name", plans, "-c", configuration)
    return Step(
        "prepare",
        Stage(f"preprocess_{dataset}_{configuration}", f"preprocess {dataset} {configuration}", command),
        lambda: is_preprocessed(dataset, plans, configuration),
    )


def _keeper(settings: RunSettings, folders: RunFolders, configuration: str, device: str) -> Step:
    target = folders.keeper(configuration)
    epochs = settings.keeper_epochs
    command = (
        "nnunet-uhf", "pretrain", "-d", _number(str(settings.pairs)), "-c", configuration, "-f", "0",
        "-o", str(target), "-device", device, *(() if epochs is None else ("--epochs", str(epochs))),
    )  # fmt: skip
    stage = Stage(
        f"keeper_{configuration}", f"teacher and keeper {configuration}", command, epochs=epochs or KEEPER_EPOCHS
    )
    return Step("prepare", stage, target.is_file)


def _trainings(settings: RunSettings, folders: RunFolders, device: str, gpus: int) -> list[Step]:
    keepers = settings.keeper if settings.pairs is None else str(folders.keepers)
    steps = []
    for configuration in settings.configurations:
        for fold in settings.folds:
            for model in TRAINERS:
                folder = _model(settings, model, configuration).fold(fold)
                command = (
                    "nnUNetv2_train", _number(settings.dataset), configuration, str(fold),
                    "-tr", settings.trainer(model), "-p", settings.plans, "--npz", "-device", device,
                    *(() if gpus == 1 else ("-num_gpus", str(gpus))), *_going_on(folder),
                )  # fmt: skip
                variables = {SEED_VARIABLE: str(settings.seed)}
                if model == "guided":
                    variables[KEEPER_VARIABLE] = keepers
                name = f"{model}_{configuration}_fold{fold}"
                title = f"{model} nnU-Net {configuration}, fold {fold}"
                stage = Stage(name, title, command, None, variables, settings.train_epochs)
                steps.append(Step("train", stage, lambda folder=folder: folder.progress is Progress.FINISHED))  # type: ignore[misc]
    return steps


def _going_on(fold: FoldFolder) -> tuple[str, ...]:
    """What nnUNetv2_train has to be told: nothing, that it goes on, or that the validation alone is missing."""
    return {Progress.STARTED: ("--c",), Progress.TRAINED: ("--val",)}.get(fold.progress, ())


def _ending(settings: RunSettings, folders: RunFolders, configuration: str, device: str) -> list[Step]:
    """Predictions of further images, then the pages."""
    models = [str(_model(settings, model, configuration).path) for model in TRAINERS]
    steps = []
    if settings.images is not None:
        steps += [_prediction(settings, folders, model, configuration, device) for model in TRAINERS]
    inputs: list[tuple[bool, Sequence[str]]] = [(True, ("-m", *models))]
    if settings.reference is not None:
        predicted = [str(folders.prediction(model, configuration)) for model in TRAINERS]
        inputs.append((False, ("-pred", *predicted, "-ref", settings.reference, "-i", str(settings.images))))
    for held_out, given in inputs:
        page = folders.comparison(configuration, held_out=held_out)
        command = ("nnunet-uhf", "compare", *given, "-names", *TRAINERS, "-o", str(page))
        steps.append(
            Step("finish", Stage(page.name, f"page of {configuration}", command), (page / "index.html").is_file)
        )
    return steps


def _prediction(settings: RunSettings, folders: RunFolders, model: str, configuration: str, device: str) -> Step:
    command = (
        "nnUNetv2_predict", "-i", str(settings.images), "-o", str(folders.prediction(model, configuration)),
        "-d", _number(settings.dataset), "-c", configuration, "-f", *map(str, settings.folds),
        "-tr", settings.trainer(model), "-p", settings.plans, "-device", device,
    )  # fmt: skip
    stage = Stage(f"predict_{model}_{configuration}", f"segment images, {model} {configuration}", command)
    target, images = folders.prediction(model, configuration), Path(str(settings.images))
    return Step("finish", stage, lambda: is_segmented(images, target, settings.dataset), certain=False)


def _model(settings: RunSettings, model: str, configuration: str) -> ModelFolder:
    return ModelFolder.of(
        settings.dataset,
        settings.trainer(model),
        settings.plans,
        configuration,
        results=Path(root_folder("nnUNet_results")),
    )


def _number(dataset: str) -> str:
    """Dataset102_Tissues -> 102."""
    return str(int(dataset.removeprefix("Dataset").partition("_")[0]))
