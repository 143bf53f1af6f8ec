"""`nnunet-uhf pretrain`: teacher, keeper and export in a row, from wherever an earlier run stopped (ours)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from nnunetv2.run.run_training import run_training

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.output import require_new
from nnunet_uhf.installation.trainer_path import PATHS_VARIABLE, add_trainers
from nnunet_uhf.keepers.file import require_name, weights_sha256
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.files import dataset_name, read_json, root_folder
from nnunet_uhf.nnunet.model_folder import ModelFolder, Progress
from nnunet_uhf.nnunet.training_data import TrainingData, refuse_changes
from nnunet_uhf.trainers.distillation.finished_teacher import ACCEPT_WORSE, read_teacher
from nnunet_uhf.trainers.export.keeper import export_keeper
from nnunet_uhf.trainers.fold_files import KEEPER_FILE
from nnunet_uhf.trainers.lengths import LONGEST, suffix_of_length


def pretrain(
    dataset: str | int,
    configuration: str,
    fold: int | str,
    *,
    plans: str = "nnUNetPlans",
    output: str | Path | None = None,
    device: torch.device,
    epochs: str = "",
    accept_worse: bool = False,
    overwrite: bool = False,
) -> Path:
    """Train a teacher, then its keeper, with nnU-Net's own training; write the keeper file and return its path.

    Args:
        dataset: number or name of a preprocessed enhancement dataset.
        configuration: 2d, 3d_fullres or 3d_lowres.
        fold: number of the fold, or "all".
        plans: plans name.
        output: keeper file to write; None: keeper.safetensors in the keeper's fold folder.
        device: where to train.
        epochs: length of both trainings, 1 to 9999; empty for the trainers' own.
        accept_worse: go on with a teacher below its low-field input, and export a keeper that is worse than its own, to
            try the chain; the file says how good it is.
        overwrite: replace a file that is at `output`; the one in the fold folder is this command's own, and made anew.

    Raises:
        UHFError: unknown dataset or length, an `output` that is there already, a finished keeper that learnt from
            another teacher, or a finished training of data that changed since.
        SystemExit: status 2, from a trainer, after its line on stderr.
    """
    suffix = _suffix(epochs)
    if output is not None:
        require_new(require_name(output), overwrite=overwrite)
    name = dataset_name(dataset)
    _check_planned(name, plans)
    teacher, keeper = f"UHFTeacherTrainer{suffix}", f"UHFKeeperTrainer{suffix}"
    models = {trainer: ModelFolder.of(name, trainer, plans, configuration) for trainer in (teacher, keeper)}
    for trainer, model in models.items():
        progress = model.fold(fold).progress
        if trainer == keeper and progress in (Progress.TRAINED, Progress.FINISHED):
            _check_same_teacher(model, models[teacher], configuration, fold)
        if progress in (Progress.TRAINED, Progress.FINISHED):
            _check_same_data(model, plans, configuration, fold)
        if progress is not Progress.FINISHED:
            with _trainers_registered(accept_worse=accept_worse):
                run_training(
                    name,
                    configuration,
                    fold,
                    trainer,
                    plans,
                    continue_training=progress is Progress.STARTED,
                    only_run_validation=progress is Progress.TRAINED,
                    device=device,
                )
    target = models[keeper].fold(fold).path / KEEPER_FILE if output is None else Path(output)
    return export_keeper(
        name,
        configuration,
        fold,
        plans=plans,
        trainer=keeper,
        output=target,
        accept_worse=accept_worse,
        overwrite=True,
    )


@contextmanager
def _trainers_registered(*, accept_worse: bool) -> Iterator[None]:
    """Let nnU-Net find the trainers for a while, also where registration at start-up is switched off."""
    before = {name: os.environ.get(name) for name in (PATHS_VARIABLE, ACCEPT_WORSE)}
    variables = {} if before[PATHS_VARIABLE] is None else {PATHS_VARIABLE: str(before[PATHS_VARIABLE])}
    add_trainers(variables)
    os.environ.update(variables)
    if accept_worse:
        os.environ[ACCEPT_WORSE] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _check_same_teacher(keeper: ModelFolder, teacher: ModelFolder, configuration: str, fold: int | str) -> None:
    """A teacher trained anew after its keeper was finished makes that keeper another teacher's."""
    block = TrainingBlock.of(keeper.plans(), configuration, where=keeper.plans_file)
    learnt_from = block.teacher_of(keeper.plans_file).sha256
    _, weights = read_teacher(teacher.fold(fold).checkpoint, configuration)
    present = weights_sha256(weights)
    if learnt_from != present:
        raise UHFError(
            f"{keeper.fold(fold).path}: this finished keeper learnt from teacher {learnt_from[:8]}, the teacher in "
            f"{teacher.fold(fold).path} is {present[:8]}; delete the keeper's folder to train it anew"
        )


def _check_same_data(model: ModelFolder, plans: str, configuration: str, fold: int | str) -> None:
    """What was trained before the dataset changed is not what is asked for now."""
    folder, preprocessed = model.fold(fold), root_folder("nnUNet_preprocessed") / model.path.parent.name
    planned = read_json(preprocessed / f"{plans}.json", advice="plan again")
    refuse_changes(
        TrainingData.recorded(load_checkpoint_weights(folder.checkpoint)["init_args"]),
        TrainingData.at_hand(fold, preprocessed=preprocessed, plans=planned, configuration=configuration),
        summary=folder.summary,
        where=folder.path,
        advice="move this folder away to train it anew, or restore what changed",
        task=True,
    )


def _suffix(epochs: str) -> str:
    """The ending of the names of trainers of a length: 5, 5epochs and _5epochs mean `_5epochs`, nothing means none."""
    if not epochs:
        return ""
    number = epochs.strip("_").removesuffix("s").removesuffix("epoch")
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= LONGEST):
        raise UHFError(f"--epochs is {epochs!r}: give a whole number from 1 to {LONGEST}, or leave it away")
    return suffix_of_length(int(number))


def _check_planned(dataset: str, plans: str) -> None:
    path = root_folder("nnUNet_preprocessed") / dataset / f"{plans}.json"
    if not path.is_file():
        raise UHFError(f"{path}: no such plans; run nnUNetv2_plan_and_preprocess on the dataset first")
