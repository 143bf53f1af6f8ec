"""Where a keeper finds its teacher, and which teacher is good enough."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.distilled import praise
from helpers.support import only_line, tiny_trainer
from helpers.tiny_data import TinyDataset
from nnunet_uhf.trainers.distillation.finished_teacher import find_teacher, teacher_names
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer


def test_a_keeper_refuses_a_teacher_far_below_its_input(
    teacher: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    class UHFKeeperTrainerRefused(UHFKeeperTrainer):
        pass

    praise(teacher, 18.9)
    try:
        error = only_line(capsys, lambda: tiny_trainer(UHFKeeperTrainerRefused, pairs, "2d"))
    finally:
        praise(teacher, 34.0)
    assert "reconstructs held-out images at 18.9 dB, its low-field input is at 20.0 dB" in error
    assert "UHFTeacherTrainer trains for 250 epochs, UHFTeacherTrainer_1000epochs for" in error
    assert not list(Path(teacher.output_folder_base).parent.glob("UHFKeeperTrainerRefused*"))


def test_a_worse_teacher_is_learnt_from_where_that_is_asked_for(
    teacher: Any, pairs: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_UHF_ACCEPT_WORSE", "1")
    praise(teacher, 10.0)
    found = find_teacher("UHFKeeperTrainer", dataset=pairs.name, plans="nnUNetPlans", configuration="2d", fold=0)
    praise(teacher, 34.0)
    assert (found.psnr, found.input_psnr) == (10.0, 20.0)


def test_a_teacher_one_decibel_below_its_input_is_accepted(teacher: Any, pairs: TinyDataset) -> None:
    praise(teacher, 19.0)
    found = find_teacher("UHFKeeperTrainer", dataset=pairs.name, plans="nnUNetPlans", configuration="2d", fold=0)
    praise(teacher, 34.0)
    assert found.trainer == "UHFTeacherTrainer"
    assert found.psnr == 19.0


def test_where_there_is_no_teacher_of_the_keepers_length_the_longest_one_will_do(
    teacher: Any, pairs: TinyDataset
) -> None:
    def found() -> str:
        options = {"dataset": pairs.name, "plans": "nnUNetPlans", "configuration": "2d", "fold": 0}
        return find_teacher("UHFKeeperTrainer_20epochs", **options).trainer

    folder = Path(teacher.output_folder_base)
    model = folder.name.removeprefix("UHFTeacherTrainer")
    praise(teacher, 34.0)
    others = [
        folder.with_name(f"UHFTeacherTrainer_{length}{model}")
        for length in ("5epochs", "10epochs", "20epochs", "1000epochs")
    ]
    try:
        shutil.copytree(folder, others[0])
        shutil.copytree(folder, others[1])
        assert found() == "UHFTeacherTrainer"
        shutil.copytree(folder, others[3])
        assert found() == "UHFTeacherTrainer_1000epochs"  # without a suffix it is 250
        shutil.rmtree(others[3])
        folder.rename(folder.with_name("aside"))
        assert found() == "UHFTeacherTrainer_10epochs"
        (others[1] / "fold_0/checkpoint_final.pth").unlink()
        assert found() == "UHFTeacherTrainer_5epochs"
        shutil.copytree(others[0], others[2])
        assert found() == "UHFTeacherTrainer_20epochs"
    finally:
        for other in others:
            shutil.rmtree(other, ignore_errors=True)
        folder.with_name("aside").rename(folder)


def test_a_missing_teacher_is_named_with_the_command_that_trains_it(
    pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    error = only_line(capsys, lambda: tiny_trainer(UHFKeeperTrainer, pairs, "3d_fullres"))
    assert f"{pairs.name}/UHFTeacherTrainer__nnUNetPlans__3d_fullres/fold_0/checkpoint_final.pth" in error
    assert f"nnUNetv2_train {pairs.name} 3d_fullres 0 -tr UHFTeacherTrainer -p nnUNetPlans" in error


@pytest.mark.parametrize("content", [None, "{}", "not JSON", '{"mean": {"prediction": {"psnr": NaN}}}'])
def test_a_teacher_without_a_validation_is_refused(
    content: str | None, teacher: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = Path(teacher.output_folder) / "validation" / "summary.json"
    before = summary.read_text()
    summary.unlink()
    if content is not None:
        summary.write_text(content)
    try:
        error = only_line(capsys, lambda: tiny_trainer(UHFKeeperTrainer, pairs, "2d"))
    finally:
        summary.write_text(before)
    assert error.startswith(f"error: {summary}")
    assert "--val" in error


def test_the_teacher_of_the_same_length_is_looked_for_first() -> None:
    assert teacher_names("UHFKeeperTrainer") == ["UHFTeacherTrainer"]
    assert teacher_names("UHFKeeperTrainer_50epochs") == ["UHFTeacherTrainer_50epochs", "UHFTeacherTrainer"]
    assert teacher_names("UHFKeeperTrainerNoAdversarial_5epochs") == [
        "UHFTeacherTrainerNoAdversarial_5epochs",
        "UHFTeacherTrainer_5epochs",
        "UHFTeacherTrainer",
    ]
