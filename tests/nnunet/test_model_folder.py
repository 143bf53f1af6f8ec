"""Model folders as nnU-Net names them: nnU-Net itself is the second opinion."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.file_path_utilities import (
    get_output_folder,
    parse_dataset_trainer_plans_configuration_from_path,
)

from helpers.workspace import environment
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.model_folder import FoldFolder, ModelFolder, ModelName, Progress

NAME = ModelName("UHFTrainer_5epochs", "nnUNetPlans_KKN_1a2b3c4d", "3d_fullres")
DATASET = "Dataset007_Brains"


def test_names_are_put_together_and_taken_apart_as_nnunet_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnunetv2.utilities.file_path_utilities.nnUNet_results", str(tmp_path))
    (tmp_path / DATASET).mkdir()
    model = ModelFolder.of(DATASET, *NAME, results=tmp_path)
    for fold in (3, "all"):
        assert model.fold(fold).path == Path(get_output_folder(DATASET, *NAME, fold=fold))
        assert model.fold(fold).name == str(fold)
    assert model.name == NAME
    assert (DATASET, *model.name) == tuple(parse_dataset_trainer_plans_configuration_from_path(str(model.path)))


def test_model_folders_lie_where_nnunet_results_says(tmp_path: Path) -> None:
    with environment(nnUNet_results=str(tmp_path)):
        model = ModelFolder.of(DATASET, *NAME)
        assert model == ModelFolder.of(DATASET, *NAME, results=tmp_path)
        for trainer in ("B", "A"):
            ModelFolder.of(DATASET, trainer, NAME.plans, NAME.configuration).path.mkdir(parents=True)
        ModelFolder.of(DATASET, "A", NAME.plans, "2d").path.mkdir()
        found = ModelFolder.of_every_trainer(DATASET, NAME.plans, NAME.configuration)
        assert [each.name.trainer for each in found] == ["A", "B"]
    with environment(nnUNet_results=None), pytest.raises(UHFError, match="nnUNet_results is not set"):
        ModelFolder.of(DATASET, *NAME)


def test_a_folder_of_another_name_is_no_model_folder(tmp_path: Path) -> None:
    for name in ("predictions", "A__B", "A__B__C__D"):
        (tmp_path / name).mkdir()
        with pytest.raises(UHFError, match="TRAINER__PLANS__CONFIGURATION"):
            ModelFolder.parse(tmp_path / name)
    with pytest.raises(UHFError, match="is no model folder"):
        ModelFolder.parse(tmp_path / str(NAME))
    (tmp_path / str(NAME)).mkdir()
    assert ModelFolder.parse(tmp_path / str(NAME)).name == NAME


def test_finished_folds_are_the_numbered_ones_and_all_where_there_is_no_other(tmp_path: Path) -> None:
    model = ModelFolder(tmp_path)
    with pytest.raises(UHFError, match="no finished fold"):
        _ = model.finished_folds
    for fold in ("all", 10, 2, 3):
        model.fold(fold).path.mkdir()
        if fold != 3:
            model.fold(fold).checkpoint.touch()
            expected = ("all",) if fold == "all" else (10,) if fold == 10 else (10, 2)
            assert model.finished_folds == expected
    (tmp_path / "fold_notes").mkdir()
    assert list(model.folds) == ["10", "2", "3", "all"]


def test_progress_is_read_from_the_fold_folder(tmp_path: Path) -> None:
    fold = FoldFolder(tmp_path)
    assert fold.progress is Progress.NEW
    (tmp_path / "checkpoint_best.pth").touch()
    assert fold.progress is Progress.STARTED
    (tmp_path / "checkpoint_final.pth").touch()
    assert fold.progress is Progress.TRAINED
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation" / "summary.json").touch()
    assert fold.progress is Progress.FINISHED


def test_the_checkpoint_trained_longest_is_taken(tmp_path: Path) -> None:
    fold = FoldFolder(tmp_path)
    assert fold.any_checkpoint is None
    for name in ("checkpoint_best.pth", "checkpoint_latest.pth", "checkpoint_final.pth"):
        (tmp_path / name).touch()
        assert fold.any_checkpoint == tmp_path / name


def test_its_descriptions_are_read_or_refused_with_what_to_do(tmp_path: Path) -> None:
    model = ModelFolder(tmp_path)
    (tmp_path / "plans.json").write_text(json.dumps({"plans_name": "p"}))
    assert model.plans() == {"plans_name": "p"}
    with pytest.raises(UHFError, match=r"dataset\.json does not exist; train again"):
        model.dataset_json(advice="train again")


def test_a_half_written_plans_json_is_made_again_from_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, plans = ModelFolder(tmp_path), {"plans_name": "nnUNetPlans", "configurations": {}}
    fold = model.fold(0)
    fold.path.mkdir()
    init_args = {"plans": plans, "configuration": "2d"}
    torch.save({"network_weights": {}, "init_args": init_args, "trainer_name": "T"}, fold.path / "checkpoint_best.pth")
    fold.checkpoint.write_bytes(b"cut short")
    model.plans_file.write_text(json.dumps(plans)[:20])
    assert model.plans() == plans
    assert "made again from a checkpoint" in capsys.readouterr().err
    assert json.loads(model.plans_file.read_text()) == plans
    assert model.plans() == plans
    assert capsys.readouterr().err == ""


def test_damaged_plans_without_a_checkpoint_are_one_line(tmp_path: Path) -> None:
    model = ModelFolder(tmp_path)
    model.plans_file.write_text("{")
    with pytest.raises(UHFError, match="not valid JSON"):
        model.plans()


def test_a_final_checkpoint_older_than_the_latest_finishes_nothing(tmp_path: Path) -> None:
    fold = FoldFolder(tmp_path)
    fold.checkpoint.touch()
    assert fold.progress is Progress.TRAINED
    (tmp_path / "checkpoint_latest.pth").touch()
    os.utime(fold.checkpoint, (1, 1))
    assert fold.progress is Progress.STARTED


def test_finished_trainings_of_other_lengths_are_found_beside_one(tmp_path: Path) -> None:
    names = ("UHFTrainer_5epochs", "UHFTrainer_50epochs", "UHFTrainerZeroGuide", "UHFTrainer")
    models = {name: ModelFolder(tmp_path / f"{name}__nnUNetPlans__2d") for name in names}
    other_plans = ModelFolder(tmp_path / "UHFTrainer_9epochs__others__2d")
    for model in (*models.values(), other_plans):
        model.fold(0).path.mkdir(parents=True)
        model.fold(0).checkpoint.touch()
    models["UHFTrainer_50epochs"].fold(0).checkpoint.unlink()
    assert models["UHFTrainer"].of_other_lengths(0) == [models["UHFTrainer_5epochs"]]
    assert models["UHFTrainer_5epochs"].of_other_lengths(0) == [models["UHFTrainer"]]
    assert models["UHFTrainer"].of_other_lengths(1) == []
