"""``nnunet-uhf export-keeper``: a finished keeper training -> a keeper file that says where it comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

import nnunet_uhf.trainers
from nnunet_uhf.errors import UHFError
from nnunet_uhf.keeper_file import KeeperHeader, weights_sha256, write_keeper
from nnunet_uhf.matching import READERS
from nnunet_uhf.networks.distillation import DistillationNet
from nnunet_uhf.networks.keeper import KnowledgeKeeper
from nnunet_uhf.networks.teacher import TeacherDecoder, UHFTeacher
from nnunet_uhf.trainers.enhancement_task import read_task
from nnunet_uhf.trainers.safe_checkpoints import load_checkpoint_weights
from nnunet_uhf.trainers.target_intensity import foreground_intensity, training_intensity

CHECKPOINT = "checkpoint_final.pth"
CITATION = "Method: arXiv:2402.08409. Framework: Isensee et al., nnU-Net, Nature Methods 18, 203-211 (2021)."


@dataclass(frozen=True)
class TrainedKeeper:
    """What one fold of a keeper trainer's results folder holds; the header without cases and metrics."""

    header: KeeperHeader
    keeper: KnowledgeKeeper
    decoder: TeacherDecoder


def export_keeper(
    dataset: int | str,
    configuration: str,
    fold: int | str,
    *,
    plans: str = "nnUNetPlans",
    trainer: str = "UHFKeeperTrainer",
    output: str | Path,
    with_decoder: bool = True,
    accept_worse: bool = False,
) -> Path:
    """Write a finished keeper training as a keeper file and return its path.

    ``with_decoder`` puts the teacher's decoder in, which ``enhance`` needs. Reads nnUNet_results and
    nnUNet_preprocessed, and nnUNet_raw for the target's intensities (see :func:`training_intensity`).

    Raises UHFError when the training or its validation is not finished, when the model is no keeper, or when the
    keeper's held-out images are worse than its input in both PSNR and SSIM, unless ``accept_worse``.
    """
    name = _dataset_name(dataset)
    folder = _root("nnUNet_results") / name / f"{trainer}__{plans}__{configuration}"
    preprocessed = _root("nnUNet_preprocessed") / name
    summary = folder / f"fold_{fold}" / "validation" / "summary.json"
    if not folder.is_dir():
        raise UHFError(
            f"{folder} does not exist; train first: nnUNetv2_train {name} {configuration} {fold} -tr {trainer}"
        )
    again = f"nnUNetv2_train {name} {configuration} {fold} -tr {trainer} -p {plans}"
    trained = read_trained_keeper(folder, fold)
    if not summary.is_file():
        raise UHFError(f"{summary} does not exist, so nobody knows how good this keeper is; run: {again} --val")
    metrics = _held_out_metrics(summary)
    if not accept_worse:
        _refuse_worse_than_input(metrics, summary)
    training, validation = _cases(preprocessed, _configuration(folder, configuration).data_identifier, fold)
    if fold == "all":
        metrics["note"] = "fold all: measured on training cases, nothing was held out"
    raw = os.environ.get("nnUNet_raw")  # noqa: SIM112 - nnU-Net's name
    intensity = training_intensity(
        None if not raw else Path(raw) / name,
        _read_json(folder / "plans.json"),
        _read_json(folder / "dataset.json"),
        configuration=configuration,
        channel=_block(folder, configuration)["target_channel"],
        cases=training,
    )
    header = replace(
        trained.header,
        training_cases=training,
        validation_cases=validation,
        metrics=metrics,
        target_intensity=intensity,
        decoder_architecture=trained.header.decoder_architecture if with_decoder else None,
    )
    output = Path(output)
    write_keeper(
        output,
        header=header,
        keeper_state=trained.keeper.state_dict(),
        decoder_state=trained.decoder.state_dict() if with_decoder else None,
    )
    return output


def finished_folds(folder: Path) -> tuple[int | str, ...]:
    """The numbered folds of a results folder that have a final checkpoint; fold "all" when there is no other."""
    names = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{CHECKPOINT}"))
    folds: tuple[int | str, ...] = tuple(int(name) for name in names if name.isdecimal()) or tuple(names)
    if not folds:
        raise UHFError(f"{folder} has no finished fold (fold_*/{CHECKPOINT}); finish the training first")
    return folds


def read_trained_keeper(folder: Path, fold: int | str) -> TrainedKeeper:
    """Read one fold of a results folder, without nnUNet_raw or nnUNet_preprocessed.

    The header's target intensity is that of the labelled voxels in the plans; cases and metrics are empty.
    Raises UHFError when files are missing or the folder is not that of a keeper trainer.
    """
    path = folder / f"fold_{fold}" / CHECKPOINT
    checkpoint = load_checkpoint_weights(path)
    plans, dataset_json = _read_json(folder / "plans.json"), _read_json(folder / "dataset.json")
    configuration = checkpoint["init_args"]["configuration"]
    plans_manager = PlansManager(plans)
    configuration_manager = plans_manager.get_configuration(configuration)
    block = _block(folder, configuration)
    if plans["image_reader_writer"] not in READERS:
        raise UHFError(
            f"{folder} was trained on images read by {plans['image_reader_writer']}, which a keeper file cannot "
            f"describe; plan its dataset with one of {', '.join(READERS)} (overwrite_image_reader_writer)"
        )
    name = checkpoint["trainer_name"]
    network = _trainer_class(name).build_network_architecture(plans_manager, configuration_manager, 1, 1, False)
    if not isinstance(network, DistillationNet):
        raise UHFError(f"{path} is of {name}, which trains no keeper; give a model of UHFKeeperTrainer")
    network.load_state_dict(checkpoint["network_weights"])
    network.eval().requires_grad_(requires_grad=False)
    task = read_task(dataset_json, dataset=plans["dataset_name"], networks=(UHFTeacher, KnowledgeKeeper))
    keeper, decoder = network.keeper, network.teacher.decoder
    source = block["source_channel"]
    header = KeeperHeader(
        architecture=keeper.config(),
        decoder_architecture=decoder.config(),
        dim=len(configuration_manager.patch_size),
        channel=task.source,
        spacing_mm=tuple(float(s) for s in configuration_manager.spacing),
        transpose_forward=tuple(plans["transpose_forward"]),
        patch_size=tuple(int(n) for n in configuration_manager.patch_size),
        normalisation=configuration_manager.normalization_schemes[source],
        use_mask_for_norm=bool(configuration_manager.use_mask_for_norm[source]),
        target_intensity=foreground_intensity(plans, block["target_channel"]),
        source_field_T=task.source_field_T,
        target_field_T=task.target_field_T,
        route=task.route,
        dataset=plans["dataset_name"],
        fold=fold,
        configuration=configuration,
        training_cases=[],
        validation_cases=[],
        metrics={},
        sha256=weights_sha256(keeper.state_dict()),
        decoder_sha256=weights_sha256(decoder.state_dict()),
        licence=str(dataset_json.get("licence") or dataset_json.get("license") or "not stated"),
        citation=" ".join(filter(None, (CITATION, dataset_json.get("reference")))),
    )
    return TrainedKeeper(header, keeper, decoder)


def _trainer_class(name: str) -> Any:
    try:
        return getattr(nnunet_uhf.trainers, name, None) or recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        raise UHFError(f"trainer {name} is not found; put its folder into nnUNet_extTrainer") from error


def _configuration(folder: Path, configuration: str) -> ConfigurationManager:
    return PlansManager(_read_json(folder / "plans.json")).get_configuration(configuration)


def _block(folder: Path, configuration: str) -> dict[str, Any]:
    block = _configuration(folder, configuration).configuration.get("uhf")
    if not isinstance(block, dict) or block.get("role") != "keeper":
        raise UHFError(f"{folder} is not the model of a keeper trainer; give one of UHFKeeperTrainer (-tr)")
    return block


def _held_out_metrics(summary: Path) -> dict[str, Any]:
    """Mean held-out PSNR and SSIM of keeper, input and, where it was measured, teacher."""
    mean = _read_json(summary).get("mean", {})
    names = {"keeper": "prediction", "input": "input", "teacher": "teacher"}
    metrics: dict[str, Any] = {ours: dict(mean[theirs]) for ours, theirs in names.items() if theirs in mean}
    complete = all(
        np.isfinite(metrics.get(name, {}).get(metric, np.nan))
        for name in ("keeper", "input")
        for metric in ("psnr", "ssim")
    )
    if not complete:
        raise UHFError(f"{summary} lacks the PSNR and SSIM of keeper and input; validate again with --val")
    return metrics


def _refuse_worse_than_input(metrics: Mapping[str, Mapping[str, float]], summary: Path) -> None:
    keeper, before = metrics["keeper"], metrics["input"]
    if keeper["psnr"] < before["psnr"] and keeper["ssim"] < before["ssim"]:
        raise UHFError(
            f"this keeper makes held-out images worse than the low-field input: {keeper['psnr']:.1f} dB / "
            f"{keeper['ssim']:.3f} against {before['psnr']:.1f} dB / {before['ssim']:.3f} ({summary}); train the "
            "teacher and then the keeper longer, or export it all the same with --accept-worse"
        )


def _cases(preprocessed: Path, data_identifier: str, fold: int | str) -> tuple[list[str], list[str]]:
    """Training and validation case identifiers of a fold, as nnU-Net chooses them."""
    if fold == "all":  # every preprocessed case; nnU-Net then neither reads nor writes the splits
        folder = preprocessed / data_identifier
        if not folder.is_dir():
            raise UHFError(f"{folder} does not exist; a keeper must name the cases it was trained on: preprocess again")
        return sorted(infer_dataset_class(str(folder)).get_identifiers(str(folder))), []
    splits = preprocessed / "splits_final.json"
    if not splits.is_file():
        raise UHFError(f"{splits} does not exist; a keeper must name the cases it was trained on: restore that file")
    folds = _read_json(splits)
    if int(fold) >= len(folds):
        raise UHFError(f"{splits} has {len(folds)} folds, so the cases of fold {fold} are unknown; train one of those")
    return list(folds[int(fold)]["train"]), list(folds[int(fold)]["val"])


def _dataset_name(dataset: int | str) -> str:
    try:
        return maybe_convert_to_dataset_name(int(dataset) if str(dataset).isdecimal() else dataset)
    except (RuntimeError, ValueError) as error:
        raise UHFError(f"no dataset {dataset} in nnUNet_raw, nnUNet_preprocessed or nnUNet_results") from error


def _root(variable: str) -> Path:
    folder = os.environ.get(variable)
    if not folder:
        raise UHFError(f"{variable} is not set: export {variable}=FOLDER, as for nnU-Net itself")
    return Path(folder)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UHFError(f"{path} does not exist; give the results folder of a finished training") from None
    except ValueError as error:
        raise UHFError(f"{path} is not valid JSON ({error}); restore it") from None
