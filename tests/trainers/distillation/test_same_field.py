"""Teacher and keeper of the low-field image itself: everything but the target as in the pretraining they check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.guided_runs import refused
from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace, environment
from nnunet_uhf.inference.notes import describe_image
from nnunet_uhf.keepers.file import read_keeper
from nnunet_uhf.trainers import UHFKeeperTrainerSameField, UHFTeacherTrainer, UHFTeacherTrainerSameField
from nnunet_uhf.trainers.distillation.finished_teacher import teacher_names
from nnunet_uhf.trainers.distillation.same_field import TargetIsSource
from nnunet_uhf.trainers.export.keeper import SAME_FIELD, export_keeper


@pytest.fixture(scope="module")
def teacher(pairs: TinyDataset) -> Any:
    torch.manual_seed(0)
    return fit(tiny_trainer(UHFTeacherTrainerSameField, pairs, "2d"), validate=True)


@pytest.fixture(scope="module")
def keeper(teacher: Any, pairs: TinyDataset) -> Any:
    torch.manual_seed(0)
    return fit(tiny_trainer(UHFKeeperTrainerSameField, pairs, "2d"), validate=True)


def batch(trainer: Any, *, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
    loaders = trainer.get_dataloaders()
    pair = trainer.pair_of(next(loaders[0 if training else 1]))
    return pair.source, pair.target


def test_the_target_is_the_source_without_its_intensity_augmentation(
    pairs: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny_trainer(UHFTeacherTrainerSameField, pairs, "2d")
    trainer.initialize()
    source, target = batch(trainer, training=False)
    assert torch.equal(source, target)
    drawn = [batch(trainer, training=True) for _ in range(3)]
    assert any(not torch.equal(source, target) for source, target in drawn)  # the source alone is augmented
    for source, target in drawn:
        for one, other in zip(source, target, strict=True):
            assert np.corrcoef(one.flatten(), other.flatten())[0, 1] > 0.3  # of the same place
    monkeypatch.setattr(TargetIsSource, "apply", lambda _, data, **__: data)
    trainer = tiny_trainer(UHFTeacherTrainerSameField, pairs, "2d")
    trainer.initialize()
    source, target = batch(trainer, training=False)
    assert not torch.equal(source, target)


def test_whole_volumes_are_the_source_twice(teacher: Any) -> None:
    data = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    source, target = teacher.held_out_images().images_of("case", data, None)
    assert np.array_equal(source, data[:1])
    assert np.array_equal(target, data[0])


def test_validation_compares_with_the_low_field_image_and_has_no_row_of_the_input(keeper: Any) -> None:
    summary = json.loads((Path(keeper.output_folder) / "validation" / "summary.json").read_text())
    assert set(summary["mean"]) == {"prediction", "prediction_fitted", "teacher"}
    assert np.isfinite(summary["mean"]["prediction"]["psnr"])


def test_plans_and_log_say_that_the_target_is_the_source(keeper: Any) -> None:
    assert keeper.block.same_field
    assert keeper.teacher.trainer == "UHFTeacherTrainerSameField"
    assert keeper.teacher.input_psnr is None
    log = next(Path(keeper.output_folder).glob("training_log_*.txt")).read_text()
    assert "Learning from UHFTeacherTrainerSameField" in log
    assert "low-field input" not in log


def test_the_keeper_file_claims_no_higher_field(keeper: Any, pairs: TinyDataset, tmp_path: Path) -> None:
    with environment(nnUNet_raw=str(pairs.raw.parent)):
        path = export_keeper(
            pairs.id, "2d", 0, trainer="UHFKeeperTrainerSameField", output=tmp_path / "same.safetensors"
        )
    header = read_keeper(path).header
    assert header.source_field_T == header.target_field_T == 0.36
    assert header.metrics["note"] == SAME_FIELD
    assert "input" not in header.metrics
    told = describe_image(header)
    assert "low-field images (0.36 T) alone, as a control" in told
    assert "paired" not in told


def test_a_same_field_keeper_never_learns_from_a_teacher_of_a_higher_field(
    pairs: TinyDataset, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = teacher_names("UHFKeeperTrainerSameField_5epochs", "UHFTeacherTrainerSameField")
    assert names == ["UHFTeacherTrainerSameField_5epochs", "UHFTeacherTrainerSameField"]
    with environment(nnUNet_results=str(tmp_path / "results")):
        fit(tiny_trainer(UHFTeacherTrainer, pairs, "2d"), validate=True)
        with refused(capsys, "UHFTeacherTrainerSameField"):
            tiny_trainer(UHFKeeperTrainerSameField, pairs, "2d")
