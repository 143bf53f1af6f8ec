"""Folds of a model folder are of one network, also where a later version would build another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.model_folder import CHECKPOINT, ModelFolder
from nnunet_uhf.trainers.image_to_image.earlier_folds import of_folds

RESULTS = Path(__file__).parents[2] / "fixtures" / "v0_1_0" / "results"
OLD = {
    "teacher": ("Dataset505_TinyPairs/UHFTeacherTrainer__nnUNetPlans__2d", {"convolutions": 1}),
    "keeper": ("Dataset505_TinyPairs/UHFKeeperTrainer__nnUNetPlans__2d", {"convolutions": 1}),
    "siqt": (
        "Dataset509_TinyHighField/SIQTTrainerMasksembles__nnUNetPlans__2d",
        {"pooling": "average", "plane_step": 2},
    ),
}


def old_folder(folder: Path, name: str, checkpoint: str | None = CHECKPOINT) -> ModelFolder:
    """What version 0.1.0 left of a training, with a checkpoint that is never opened."""
    (folder / "fold_0").mkdir(parents=True)
    shutil.copyfile(RESULTS / OLD[name][0] / "plans.json", folder / "plans.json")
    if checkpoint:
        (folder / "fold_0" / checkpoint).touch()
    return ModelFolder(folder)


@pytest.mark.parametrize("checkpoint", [CHECKPOINT, "checkpoint_latest.pth", "checkpoint_best.pth"])
@pytest.mark.parametrize("name", OLD)
def test_folds_beside_those_of_version_0_1_0_get_its_networks(tmp_path: Path, name: str, checkpoint: str) -> None:
    folder = old_folder(tmp_path / "model", name, checkpoint)
    assert of_folds({"base_features": 8}, folder, "2d") == {"base_features": 8, **OLD[name][1]}
    assert of_folds(OLD[name][1], folder, "2d") == OLD[name][1]


@pytest.mark.parametrize("name", OLD)
def test_without_a_checkpoint_dataset_json_alone_decides(tmp_path: Path, name: str) -> None:
    assert of_folds({"base_features": 8}, old_folder(tmp_path / "model", name, None), "2d") == {"base_features": 8}
    assert of_folds({}, ModelFolder(tmp_path / "nothing"), "2d") == {}


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("siqt", {"pooling": "max"}, "trained with pooling average, dataset.json asks for max"),
        ("keeper", {"convolutions": 2}, "trained with convolutions 1, dataset.json asks for 2"),
    ],
)
def test_another_network_beside_earlier_folds_is_refused_with_the_way_out(
    tmp_path: Path, name: str, asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(UHFError, match=told) as caught:
        of_folds(asked, old_folder(tmp_path / "model", name), "2d")
    assert "plans.json" in str(caught.value)
    assert "move the folder away" in str(caught.value)


def test_the_checkpoint_tells_where_plans_json_is_gone(tmp_path: Path) -> None:
    folder = old_folder(tmp_path / "model", "siqt", None)
    plans = json.loads(folder.plans_file.read_text())
    content = {"trainer_name": "SIQTTrainerMasksembles", "network_weights": {}}
    content["init_args"] = {"plans": plans, "configuration": "2d"}
    torch.save(content, folder.path / "fold_0" / CHECKPOINT)
    folder.plans_file.unlink()
    assert of_folds({}, folder, "2d") == {"pooling": "average", "plane_step": 2}
