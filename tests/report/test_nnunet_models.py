"""Model folders that nnU-Net's own training and validation wrote, plain and guided."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.guided_runs import model_folder, use_keeper
from helpers.support import find_trainer, fit, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.report.compare import compare


def test_folders_of_finished_trainings_compare_with_nnunets_own_dice(nnunet: Workspace, tmp_path: Path) -> None:
    dataset = nnunet.dataset("single")
    use_keeper(tmp_path, 2, training_cases=["case_00", "CASE_01"])
    folders = []
    for name in ("nnUNetTrainer", "UHFTrainer"):
        trainer = tiny_trainer(name, dataset, "2d")
        trainer.initialize()
        trainer.inference_allowed_mirroring_axes = None  # saves time alone
        fit(trainer, validate=True)
        folders.append(model_folder(nnunet.results, find_trainer(name), dataset, "2d"))
    record = compare(folders, [], tmp_path / "out")
    summaries = [json.loads((folder / "fold_0" / "validation" / "summary.json").read_text()) for folder in folders]
    (found,) = [r["paired"] for r in record["results"] if r["primary"]]
    assert found["baseline_mean"] == pytest.approx(summaries[0]["foreground_mean"]["Dice"])
    assert found["model_mean"] == pytest.approx(summaries[1]["foreground_mean"]["Dice"])
    plain, guided = record["costs"]
    assert plain["keeper_parameters"] == 0
    assert 0 < guided["keeper_parameters"] < guided["parameters"]
    assert (plain["epochs"], plain["device"], plain["patch_size"]) == (1, "cpu", "32 x 32")
    assert all(len(record["trainings"][name][0]["curves"]["train_losses"]) == 1 for name in record["trainings"])
    (keeper,) = record["keepers"]
    overlap = sorted({"case_00", "case_01"} & set(record["cases"]))
    assert keeper["overlap"] == overlap
    assert record["verdicts"]["UHFTrainer"]["kind"] == ("spoiled" if overlap else "unclear")
