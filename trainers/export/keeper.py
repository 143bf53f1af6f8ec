"""``nnunet-uhf export-keeper``: a finished keeper training -> a keeper file that says where it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from rich.console import Console

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.output import require_new
from nnunet_uhf.keepers.file import require_name, write_keeper
from nnunet_uhf.keepers.trained import SAME_FIELD, TrainedKeeper, read_trained_keeper
from nnunet_uhf.nnunet.files import dataset_name, read_json, root_folder
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.nnunet.training_data import TrainingData, refuse_changes, validated_cases
from nnunet_uhf.routes.table import read_any_task, read_task
from nnunet_uhf.routes.task import EnhancementTask, Task
from nnunet_uhf.trainers.export.intensity import training_intensity
from nnunet_uhf.trainers.export.statistics import keeper_statistics
from nnunet_uhf.trainers.lengths import base_and_length

ALL_CASES = "fold all: measured on training cases, nothing was held out"
NOT_CLOSER = "inside the brain its images are no closer to the target (PSNR) than the low-field input, both fitted"


def export_keeper(
    dataset: int | str,
    configuration: str,
    fold: int | str,
    *,
    plans: str = "nnUNetPlans",
    trainer: str = "UHFKeeperTrainer",
    output: str | Path,
    with_decoder: bool = True,
    with_statistics: bool = True,
    accept_worse: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> Path:
    """Write a finished keeper training as a keeper file and return its path.

    ``with_decoder`` puts the decoder in, which ``enhance`` needs, ``with_statistics`` those of the keeper's features
    over its cases, which ``check-input`` needs; ``console`` shows how far they are, and what there is to know about the
    keeper (``metrics["note"]`` of the header). Reads nnUNet_results and nnUNet_preprocessed, and nnUNet_raw for the
    target's intensities (see :func:`training_intensity`).

    Raises UHFError when the training or its validation is not finished, when the model is no keeper, when cases are
    not preprocessed that the statistics need, or when the keeper's held-out images are worse than its input in both
    PSNR and SSIM, unless ``accept_worse``; when ``output`` is there already, unless ``overwrite``.
    """
    require_new(require_name(output), overwrite=overwrite)
    name = dataset_name(dataset)
    model = _model(name, trainer, plans, configuration, fold, console=console)
    trainer = model.name.trainer
    preprocessed = root_folder("nnUNet_preprocessed") / name
    summary = model.fold(fold).summary
    again = f"nnUNetv2_train {name} {configuration} {fold} -tr {trainer} -p {plans}"
    trained = read_trained_keeper(model.path, fold)
    if not summary.is_file():
        raise UHFError(f"{summary} does not exist, so nobody knows how good this keeper is; run: {again} --val")
    used_plans = model.plans(advice="train again")
    block = trained.block
    task: Task = read_any_task(model.dataset_json(advice="train again"), dataset=name)
    if trained.header.modalities is None:
        task = read_task(
            model.dataset_json(advice="train again"), dataset=name
        )  # other routes make no keeper themselves
    metrics = _held_out_metrics(summary, same_field=block.same_field)
    of_images = "teacher" not in (trained.header.supervision or {})  # else structures were learnt, and less of images
    if not accept_worse and of_images and not block.same_field:
        _refuse_worse_than_input(metrics, summary)
    data_identifier = PlansManager(used_plans).get_configuration(configuration).data_identifier
    data = _data(trained, model, fold, preprocessed=preprocessed)
    training, validation = list(data.training), list(data.validation)
    note = _note(metrics, same_field=block.same_field, fold=fold)
    if note:
        metrics["note"] = note
    dataset_json = model.dataset_json(advice="train again")
    raw = os.environ.get("nnUNet_raw")  # noqa: SIM112 - nnU-Net's name
    intensity = training_intensity(
        None if not raw else Path(raw) / name,
        used_plans,
        dataset_json,
        configuration=configuration,
        channel=block.learnt_channel,
        cases=training,
    )
    statistics = None
    if with_statistics and trained.header.modalities is None:  # no guide, so that no input is checked for it
        statistics = keeper_statistics(
            trained.header,
            trained.keeper,
            preprocessed / data_identifier,
            dataset_json=dataset_json,
            training=training,
            held_out=validation,
            console=console,
        )
    header = replace(
        trained.header,
        training_cases=sorted({*training, *_seen_by_the_maker(task, validation)}),
        validation_cases=validation,
        metrics=metrics,
        target_intensity=intensity,
        feature_statistics=statistics,
        orientation=trained.header.orientation or data.orientation,
        decoder_architecture=trained.header.decoder_architecture if with_decoder else None,
    )
    output = Path(output)
    write_keeper(
        output,
        header=header,
        keeper_state=trained.keeper.state_dict(),
        decoder_state=trained.decoder.state_dict() if with_decoder else None,
    )
    if note and console is not None:
        console.print(f"note: {note}", soft_wrap=True)
    return output


def _model(
    dataset: str, trainer: str, plans: str, configuration: str, fold: int | str, *, console: Console | None
) -> ModelFolder:
    """The model of that trainer; where there is none, the only one of it at another length that is finished.

    Raises:
        UHFError: there is none at all, or there are several lengths to choose from.
    """
    model = ModelFolder.of(dataset, trainer, plans, configuration)
    if model.path.is_dir():
        return model
    beside = model.of_other_lengths(fold)
    if len(beside) == 1 and base_and_length(trainer) is None:  # a length that is asked for is meant
        if console is not None:
            console.print(f"note: there is no {trainer}; this is of {beside[0].name.trainer}", soft_wrap=True)
        return beside[0]
    others = ", ".join(other.name.trainer for other in beside)
    raise UHFError(
        f"{model.path} does not exist; {f'finished are {others}: choose with -tr, or ' if beside else ''}train first: "
        f"nnUNetv2_train {dataset} {configuration} {fold} -tr {trainer}"
    )


def _data(trained: TrainedKeeper, model: ModelFolder, fold: int | str, *, preprocessed: Path) -> TrainingData:
    """The data of the training itself; UHFError when the folders or the validation tell others."""
    folder, configuration = model.fold(fold), trained.header.configuration
    now = TrainingData.at_hand(fold, preprocessed=preprocessed, plans=model.plans(), configuration=configuration)
    refuse_changes(
        trained.data,
        now,
        summary=folder.summary,
        where=folder.checkpoint,
        advice="a keeper file must say what it was trained on: restore what changed, or train again",
    )
    validated = validated_cases(folder.summary)
    if trained.data is not None and validated is not None and validated != set(now.validation or now.training):
        raise UHFError(f"{folder.summary}: these are not the cases that were held out; validate again with --val")
    return now


def _seen_by_the_maker(task: Task, held_out: Sequence[str]) -> list[str]:
    """Cases that a model which made pairs has seen, but for those that the keeper's validation names."""
    maker = task.made_by if isinstance(task, EnhancementTask) else None
    seen = (maker or {}).get("training_cases", [])
    return [case for case in seen if case not in held_out]


def _held_out_metrics(summary: Path, *, same_field: bool) -> dict[str, Any]:
    """Mean held-out PSNR and SSIM of keeper, as it comes and fitted, input and, where it was measured, teacher.

    Where the target is the input itself there is no row of the input.
    """
    content = read_json(summary, advice="validate again with --val")
    mean = content.get("mean", {})
    names = {"keeper": "prediction", "keeper_fitted": "prediction_fitted", "input": "input", "teacher": "teacher"}
    metrics: dict[str, Any] = {ours: dict(mean[theirs]) for ours, theirs in names.items() if theirs in mean}
    complete = all(
        np.isfinite(metrics.get(name, {}).get(metric, np.nan))
        for name in (("keeper", "keeper_fitted") if same_field else ("keeper", "keeper_fitted", "input"))
        for metric in ("psnr", "ssim", "psnr_brain", "ssim_brain")
    )
    if "tasks" in content:
        metrics["tasks"] = {name: _in_brain(row) for name, row in content["tasks"].items()}
    if not complete:
        raise UHFError(f"{summary} lacks the PSNR and SSIM of keeper and input; validate again with --val")
    return metrics


def _in_brain(row: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """PSNR and SSIM in the brain of a task's prediction and input."""
    names = {"": "prediction", "input_": "input"}
    return {f"{ours}{key}": row[theirs][key] for ours, theirs in names.items() for key in ("psnr_brain", "ssim_brain")}


def _refuse_worse_than_input(metrics: Mapping[str, Mapping[str, float]], summary: Path) -> None:
    keeper, before = metrics["keeper_fitted"], metrics["input"]
    if keeper["psnr"] < before["psnr"] and keeper["ssim"] < before["ssim"]:
        raise UHFError(
            "this keeper makes held-out images worse than the low-field input, both after a linear fit: "
            f"{keeper['psnr']:.1f} dB / {keeper['ssim']:.3f} against {before['psnr']:.1f} dB / {before['ssim']:.3f} "
            f"({summary}); train the teacher and then the keeper longer, or export it all the same with --accept-worse"
        )


def _note(metrics: Mapping[str, Mapping[str, float]], *, same_field: bool, fold: int | str) -> str:
    """What a user must know who reads the metrics; empty when there is nothing."""
    notes = []
    if same_field:
        notes.append(SAME_FIELD)
    elif metrics["keeper_fitted"]["psnr_brain"] <= metrics["input"]["psnr_brain"]:
        notes.append(NOT_CLOSER)
    if fold == "all":
        notes.append(ALL_CASES)
    return "; ".join(notes)
