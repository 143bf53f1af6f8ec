"""nnU-Net's results folders: their names, folds and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.files import root_folder

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


def model_folder(plans: Mapping[str, Any], configuration: str, trainer: str) -> Path:
    """nnU-Net's folder of the folds of one trainer, plans and configuration."""
    dataset = root_folder("nnUNet_results") / plans["dataset_name"]
    return dataset / f"{trainer}__{plans['plans_name']}__{configuration}"


def has_checkpoint(folder: Path, fold: int | str) -> bool:
    """Whether a fold of a model folder has a checkpoint, which holds all weights, the keeper's included."""
    return any((folder / f"fold_{fold}" / name).is_file() for name in CHECKPOINTS)


CHECKPOINT = "checkpoint_final.pth"


def finished_folds(folder: Path) -> tuple[int | str, ...]:
    """The numbered folds of a results folder that have a final checkpoint; fold "all" when there is no other."""
    names = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{CHECKPOINT}"))
    folds: tuple[int | str, ...] = tuple(int(name) for name in names if name.isdecimal()) or tuple(names)
    if not folds:
        raise UHFError(f"{folder} has no finished fold (fold_*/{CHECKPOINT}); finish the training first")
    return folds
