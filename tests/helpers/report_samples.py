"""Made label maps, model folders and predictions to compare: no training, a few thousand voxels a case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from helpers.tiny_data import LABELS, REGIONS, case_affine, make_channel, make_labels, write_image

DATASET = "Dataset511_Compare"
SHAPE = (26, 24, 20)
SPACING = (1.0, 1.0, 1.5)
AFFINE = case_affine(SPACING, SHAPE)
CASES = tuple(f"case_{index:02d}" for index in range(8))


def truth(case: str) -> NDArray[np.uint8]:
    """The label map of a case, always the same."""
    labels: NDArray[np.uint8] = make_labels(SHAPE, np.random.default_rng(int(case[-2:])))
    return labels


def spoiled(case: str, part: float, *, seed: int = 0) -> NDArray[np.uint8]:
    """The label map with that part of its brain voxels relabelled at random; a larger part holds the smaller one."""
    labels = truth(case)
    rng = np.random.default_rng(1000 + 10 * int(case[-2:]) + seed)
    wrong = (rng.random(SHAPE) < part) & (labels > 0)
    labels[wrong] = rng.integers(1, 4, SHAPE)[wrong]
    return labels


def write_labels(folder: Path, labels: Mapping[str, NDArray[Any]]) -> Path:
    """A folder of label maps by case."""
    for case, values in labels.items():
        write_image(folder / f"{case}.nii.gz", np.asarray(values, np.uint8), AFFINE)
    return folder


def write_raw(root: Path, *, labels: Mapping[str, Any] | None = None, cases: Sequence[str] = CASES) -> Path:
    """The raw dataset: images and true label maps."""
    raw = root / "raw" / DATASET
    for case in cases:
        image = make_channel(truth(case), "LF", np.random.default_rng(7))
        write_image(raw / "imagesTr" / f"{case}_0000.nii.gz", image, AFFINE)
    write_labels(raw / "labelsTr", {case: truth(case) for case in cases})
    (raw / "dataset.json").write_text(json.dumps(dataset_json(labels)))
    return raw


def dataset_json(labels: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of dataset.json."""
    content: dict[str, Any] = {"channel_names": {"0": "LF"}, "labels": dict(labels or LABELS), "file_ending": ".nii.gz"}
    if labels is REGIONS:
        content["regions_class_order"] = [1, 2, 3]
    return content


def write_model(
    root: Path,
    trainer: str,
    predictions: Mapping[str, NDArray[Any]],
    *,
    folds: int = 2,
    block: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    epochs: int = 3,
) -> Path:
    """A model folder as nnU-Net leaves it; cases go round the folds."""
    folder = root / "results" / DATASET / f"{trainer}__nnUNetPlans__2d"
    settings = {"patch_size": [16, 16], "batch_size": 2, "spacing": [1.0, 1.0], "architecture": {}}
    if block is not None:
        settings["uhf"] = dict(block)
    plans = {"dataset_name": DATASET, "plans_name": "nnUNetPlans", "configurations": {"2d": settings}}
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset_json(labels)))
    for fold in range(folds):
        part = {case: values for case, values in predictions.items() if int(case[-2:]) % folds == fold}
        validation = write_labels(folder / f"fold_{fold}" / "validation", part)
        (validation / "summary.json").write_text("{}")
        write_checkpoint(folder / f"fold_{fold}" / "checkpoint_final.pth", epochs=epochs)
        (folder / f"fold_{fold}" / "debug.json").write_text(
            '{"device": "cpu", "gpu_name": "None", "hostname": "secret"}'
        )
    return folder


def write_checkpoint(path: Path, *, epochs: int) -> None:
    """A checkpoint with shared weights, a keeper, and a log: 10 s for the first epoch, 2 s for the others."""
    shared = torch.zeros(5, 2)
    weights = {
        "encoder.weight": shared,
        "decoder.encoder.weight": shared,
        "keeper.weight": torch.zeros(3),
        "encoder.norm.running_mean": torch.zeros(7),
    }
    starts = [100.0 * epoch for epoch in range(epochs)]
    log = {
        "train_losses": [np.float32(1 / (epoch + 1)) for epoch in range(epochs)],
        "val_losses": [0.5 / (epoch + 1) for epoch in range(epochs)],
        "ema_fg_dice": [0.1 * epoch for epoch in range(epochs)],
        "epoch_start_timestamps": starts,
        "epoch_end_timestamps": [start + (2.0 if epoch else 10.0) for epoch, start in enumerate(starts)],
    }
    init = {"plans": {}, "configuration": "2d", "fold": 0, "dataset_json": {}}
    torch.save({"network_weights": weights, "init_args": init, "trainer_name": "made", "logging": log}, path)


def keeper_block(training_cases: Sequence[str], **changes: Any) -> dict[str, Any]:
    """The `uhf` block of a guided configuration."""
    provenance = {
        "dataset": "Dataset505_TinyPairs",
        "configuration": "2d",
        "fold": 0,
        "route": "paired",
        "source_field_T": 0.36,
        "target_field_T": 3.0,
        "training_cases": list(training_cases),
        "validation_cases": ["other_1"],
        "metrics": {"keeper": {"psnr": 31.5, "ssim": 0.91}},
    }
    keeper = {"architecture": {"dim": 2}, "sha256": "ab" * 32, "provenance": provenance}
    return {"format": 1, "role": "guided", "preset": "reference", "keeper": keeper, "guide_channel": 0, **changes}
