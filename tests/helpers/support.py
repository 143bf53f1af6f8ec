"""Helpers of the tests: nnU-Net's own functions on tiny datasets, with fewer processes and fewer iterations."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.tiny_data import (
    TinyDataset,
)
from helpers.workspace import quick_training

REPOSITORY = Path(__file__).resolve().parents[2]
DEVICE = torch.device(os.environ.get("NNUNET_UHF_TEST_DEVICE", "cpu"))
"""Of trainings and predictions: cuda runs them on a card, where tests of exact numbers may differ."""


def find_trainer(name: str) -> type:
    """A trainer class by name: ours, or one of nnU-Net's own."""
    import nnunet_uhf.trainers as ours

    if hasattr(ours, name):
        return getattr(ours, name)
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    return recursive_find_trainer_class_by_name(name)


def tiny_trainer(
    trainer: str | type,
    dataset: TinyDataset,
    configuration: str,
    *,
    fold: int | str = 0,
    plans: str | Mapping[str, Any] | None = None,
    iterations: int = 2,
    val_iterations: int = 1,
    epochs: int = 1,
    continue_training: bool = False,
) -> Any:
    """A trainer on the CPU with a few iterations, not yet initialised; `plans` is a name or the content."""
    cls = find_trainer(trainer) if isinstance(trainer, str) else trainer
    content = dict(plans) if isinstance(plans, Mapping) else dataset.plans(plans)
    content["continue_training"] = continue_training
    made = cls(content, configuration, fold, dataset.dataset_json(), device=DEVICE)
    made.num_iterations_per_epoch = iterations
    made.num_val_iterations_per_epoch = val_iterations
    made.num_epochs = epochs
    return made


def fit(trainer: Any, *, validate: bool = False, npz: bool = False, drawn: bool = False) -> Any:
    """Train, and on request validate, inside this process; returns the trainer."""
    with quick_training(drawn=drawn):
        trainer.run_training()
        if validate:
            trainer.perform_actual_validation(npz)
    return trainer


def predict_folder(model: Path, source: Path, output: Path, *, fold: int | str = 0, **options: Any) -> Path:
    """nnU-Net's own prediction of a folder, inside this process; returns the output folder."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    output.mkdir(parents=True, exist_ok=True)
    predictor = nnUNetPredictor(use_mirroring=False, device=DEVICE, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (fold,), "checkpoint_final.pth")
    predictor.predict_from_files_sequential(str(source), str(output), **options)
    return output


def run_command(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout_s: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run a console script beside this Python, on the CPU; with `check` a failure fails the test."""
    script = Path(sys.executable).parent / command[0]
    if not script.exists():
        raise FileNotFoundError(f"{command[0]} is not installed beside {sys.executable}")
    variables = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        **(env or {}),
    }
    words = [str(script), *(str(word) for word in command[1:])]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode != 0:
        pytest.fail(f"{command[0]} exited with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def tiny_keeper(
    folder: Path,
    dim: int,
    channel: str = "LF",
    *,
    name: str | None = None,
    seed: int = 0,
    decoder: bool = True,
    **header: Any,
) -> Path:
    """Write a valid keeper file, 4 base features, random weights; `header` overrides fields of its header."""
    from nnunet_uhf.keepers.file import KeeperHeader, write_keeper
    from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
    from nnunet_uhf.networks.distillation.teacher import UHFTeacher

    torch.manual_seed(seed)
    strides = header.pop("strides", None)
    keeper = KnowledgeKeeper(dim=dim, in_channels=1, base_features=4, strides=strides)
    head = UHFTeacher(dim=dim, in_channels=1, base_features=4, strides=strides).decoder
    fields: dict[str, Any] = {
        "format_version": 1,
        "architecture": keeper.config(),
        "decoder_architecture": head.config() if decoder else None,
        "dim": dim,
        "channel": channel,
        "spacing_mm": (1.0,) * dim,
        "axis_order": "transposed SimpleITK zyx",
        "transpose_forward": (0, 1, 2),
        "patch_size": (32,) * dim,
        "normalisation": "ZScoreNormalization",
        "use_mask_for_norm": True,
        "target_intensity": {"mean": 70.0, "std": 25.0},
        "source_field_T": 0.36,
        "target_field_T": 3.0,
        "route": "paired",
        "dataset": "Dataset505_TinyPairs",
        "fold": 0,
        "configuration": "2d" if dim == 2 else "3d_fullres",
        "training_cases": ["case_01", "case_02", "case_03", "case_04"],
        "validation_cases": ["case_00"],
        "metrics": {},
        "sha256": "",
        "package_version": "0",
        "licence": "CC0-1.0",
        "citation": "made for the tests",
        **header,
    }
    path = folder / (name or f"keeper_{dim}d.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    write_keeper(
        path,
        header=KeeperHeader(**fields),
        keeper_state=keeper.state_dict(),
        decoder_state=head.state_dict() if decoder else None,
    )
    return path


def only_line(capsys: pytest.CaptureFixture[str], action: Callable[[], Any]) -> str:
    """The one line on stderr with which an action ends in status 2."""
    with pytest.raises(SystemExit) as end:
        action()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def shared_data() -> Path:
    """The folder of real scans beside the repository, or NNUNET_UHF_TEST_DATA; skips the test without it."""
    chosen = os.environ.get("NNUNET_UHF_TEST_DATA")
    folder = Path(chosen) if chosen else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real test data not found in {folder}; set NNUNET_UHF_TEST_DATA to the folder that holds it")
    return folder
