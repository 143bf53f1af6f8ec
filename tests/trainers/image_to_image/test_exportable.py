"""What no keeper file could hold in the end is refused before the first training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.support import only_line, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace
from nnunet_uhf.nnunet.training_data import SPLITS


@pytest.fixture
def pairs(nnunet: Workspace, tmp_path: Path) -> TinyDataset:
    dataset = nnunet.private("pairs", tmp_path).dataset("pairs")
    (dataset.preprocessed / SPLITS).unlink(missing_ok=True)
    return dataset


def ask(dataset: TinyDataset, **entries: Any) -> None:
    """Change dataset.json; `architecture` is one of its `uhf`."""
    path = dataset.preprocessed / "dataset.json"
    content = json.loads(path.read_text())
    sizes = entries.pop("architecture", {})
    content["uhf"]["architecture"].update(sizes)
    path.write_text(json.dumps({**content, **entries}))


@pytest.mark.parametrize("trainer", ["UHFTeacherTrainer_5epochs", "SIQTTrainer"])
@pytest.mark.parametrize("features", [68, 100000])
def test_sizes_that_no_file_may_have_are_refused_before_training(
    trainer: str, features: int, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(pairs, architecture={"base_features": features})
    error = only_line(capsys, lambda: tiny_trainer(trainer, pairs, "2d"))
    assert f"'base_features' must be a multiple of 4 up to 64, not {features}" in error
    assert str(pairs.preprocessed / "dataset.json") in error
    assert not list(Path(pairs.preprocessed.parents[1] / "results").rglob("fold_*"))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"architecture": {"base_features": 6}}, "base_features"),
        ({"architecture": {"kernel_size": 11}}, "'kernel_size' must be an odd number up to 9, not 11"),
        ({"licence": "L" * 5001}, "'licence' must be printable text of at most 5000 characters"),
        ({"reference": "\x1b[31m"}, "'citation' must be printable text"),
    ],
)
def test_a_teacher_is_not_trained_for_a_keeper_that_cannot_be_exported(
    entries: dict[str, Any], words: str, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(pairs, **entries)
    assert words in only_line(capsys, lambda: tiny_trainer("UHFTeacherTrainer", pairs, "2d"))
    assert not list(Path(pairs.preprocessed.parents[1] / "results").rglob("fold_*"))


def test_a_fold_that_is_not_in_the_split_file_is_refused_before_training(
    pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs.hold_out("case_00")
    error = only_line(capsys, lambda: tiny_trainer("UHFTeacherTrainer", pairs, "2d", fold=1))
    assert f"{SPLITS} has 1 folds, so the cases of fold 1 are unknown" in error


def test_a_sixth_fold_is_refused_where_nnunet_is_to_split_into_five(
    pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    error = only_line(capsys, lambda: tiny_trainer("UHFTeacherTrainer", pairs, "2d", fold=5))
    assert "train one from 0 to 4, not 5" in error
    tiny_trainer("UHFTeacherTrainer", pairs, "2d", fold=4)
