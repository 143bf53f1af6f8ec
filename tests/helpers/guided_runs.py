"""Runs of guided trainers through nnU-Net's own training command, inside this process and cut short."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from helpers.support import DEVICE, tiny_keeper
from helpers.tiny_data import PLANS, TinyDataset
from helpers.workspace import quick_training

KEEPER_VARIABLE = "nnUNet_UHF_KKN"


def brief(trainer: type, *, iterations: int = 2, epochs: int = 1) -> type:
    """The trainer under its own name (so that nnU-Net finds the real one to predict), with few iterations."""

    def start(
        self: Any,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        trainer.__init__(self, plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = iterations, 1
        self.num_epochs = epochs

    return type(trainer.__name__, (trainer,), {"__init__": start})


def train(
    trainer: type,
    dataset: TinyDataset,
    configuration: str,
    *,
    fold: int | str = 0,
    plans: str = PLANS,
    drawn: bool = False,
    mirrored: bool = False,
    **options: Any,
) -> None:
    """`nnUNetv2_train DATASET CONFIGURATION FOLD -tr TRAINER -p PLANS -device cpu`; options as in run_training."""
    from nnunetv2.run import run_training

    with (
        quick_training(drawn=drawn, mirrored=mirrored),
        mock.patch.object(run_training, "recursive_find_trainer_class_by_name", return_value=trainer),
    ):
        run_training.run_training(dataset.id, configuration, fold, trainer.__name__, plans, device=DEVICE, **options)


def model_folder(results: Path, trainer: type, dataset: TinyDataset, configuration: str, plans: str = PLANS) -> Path:
    """nnU-Net's folder of a trained model."""
    return results / dataset.name / f"{trainer.__name__}__{plans}__{configuration}"


def checkpoint(folder: Path, name: str = "checkpoint_final.pth", fold: int | str = 0) -> dict[str, Any]:
    """An nnU-Net checkpoint of a model folder."""
    content: dict[str, Any] = torch.load(folder / f"fold_{fold}" / name, map_location="cpu", weights_only=False)
    return content


def use_keeper(folder: Path, dim: int, channel: str = "LF", **options: Any) -> Path:
    """Write a tiny keeper file and point nnU-Net's variable at it; the fixtures restore the variable."""
    path = tiny_keeper(folder, dim, channel, **options)
    os.environ[KEEPER_VARIABLE] = str(path)
    return path


def forget_keeper() -> None:
    """Unset nnU-Net's variable."""
    os.environ.pop(KEEPER_VARIABLE, None)


@contextmanager
def refused(capsys: pytest.CaptureFixture[str], *phrases: str) -> Iterator[None]:
    """Exit status 2 and one line on stderr that holds every phrase."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        yield
    assert stopped.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    for phrase in phrases:
        assert phrase in lines[0]
