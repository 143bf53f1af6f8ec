"""No training goes on, is validated, learnt from or exported once its data are others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.support import fit, only_line, tiny_trainer
from helpers.tiny_data import TinyDataset
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import FoldFolder
from nnunet_uhf.nnunet.training_data import RECORD
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer
from nnunet_uhf.trainers.distillation.pretrain import pretrain
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer
from nnunet_uhf.trainers.export.keeper import export_keeper

Change = Callable[[str], None]


@pytest.fixture
def change(pairs: TinyDataset) -> Iterator[Change]:
    """Changes split, images or task of the dataset until the test ends."""
    kept = {
        name: (pairs.preprocessed / name).read_text()
        for name in ("splits_final.json", "dataset_fingerprint.json", "dataset.json")
    }

    def edit(what: str) -> None:
        if what == "split":
            pairs.hold_out("case_01", "case_02")
            return
        name = {"images": "dataset_fingerprint.json", "task": "dataset.json"}[what]
        content = json.loads(kept[name])
        if what == "images":
            content["spacings"][0][0] *= 2
        else:
            content["uhf"]["target_field_T"] = 7.0
        (pairs.preprocessed / name).write_text(json.dumps(content))

    yield edit
    for name, text in kept.items():
        (pairs.preprocessed / name).write_text(text)


def forget(trainer: Any) -> None:
    """Make a checkpoint like those of version 0.1.0, which do not say what they were trained on."""
    path = FoldFolder(Path(trainer.output_folder)).checkpoint
    content = load_checkpoint_weights(path)
    del content["init_args"][RECORD]
    torch.save(content, path)


def test_every_checkpoint_says_what_it_was_trained_on(teacher: Any, pairs: TinyDataset) -> None:
    path = FoldFolder(Path(teacher.output_folder)).checkpoint
    split = json.loads((pairs.preprocessed / "splits_final.json").read_text())[0]
    record = load_checkpoint_weights(path)["init_args"][RECORD]
    assert (record["training"], record["validation"]) == (split["train"], split["val"])
    assert len(record["images"]) == len(record["task"]) == 64


@pytest.mark.parametrize("what", ["split", "images", "task"])
def test_a_training_does_not_go_on_with_other_data(
    what: str, teacher: Any, pairs: TinyDataset, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    change(what)
    trainer = tiny_trainer(UHFTeacherTrainer, pairs, "2d", continue_training=True)
    trainer.load_checkpoint(str(FoldFolder(Path(teacher.output_folder)).checkpoint))
    capsys.readouterr()
    error = only_line(capsys, trainer.run_training)
    assert "checkpoint_final.pth: " in error
    assert "or train the fold anew, without --c" in error


@pytest.mark.parametrize("recorded", [True, False])
def test_a_validation_of_other_cases_is_refused(
    recorded: bool, teacher: Any, pairs: TinyDataset, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    path = FoldFolder(Path(teacher.output_folder)).checkpoint
    before = path.read_bytes()
    try:
        if not recorded:
            forget(teacher)
        change("split")
        trainer = tiny_trainer(UHFTeacherTrainer, pairs, "2d")
        trainer.load_checkpoint(str(path))
        capsys.readouterr()
        assert "splits_final.json now holds out case_01, case_02" in only_line(
            capsys, trainer.perform_actual_validation
        )
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_keeper_is_told_when_its_teacher_had_another_split(
    recorded: bool, teacher: Any, pairs: TinyDataset, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    class UHFKeeperTrainerOfAnotherSplit(UHFKeeperTrainer):
        pass

    path = FoldFolder(Path(teacher.output_folder)).checkpoint
    before = path.read_bytes()
    try:
        if not recorded:
            forget(teacher)
        change("split")
        trainer = tiny_trainer(UHFKeeperTrainerOfAnotherSplit, pairs, "2d")
        capsys.readouterr()
        error = only_line(capsys, trainer.run_training)
    finally:
        path.write_bytes(before)
    assert error.startswith(f"error: {path}: ")
    assert "the teacher has to be of the keeper's split" in error


@pytest.mark.parametrize("what", ["split", "images", "task"])
def test_pretraining_does_not_export_what_was_trained_on_other_data(
    what: str, teacher: Any, keeper: Any, pairs: TinyDataset, change: Change, tmp_path: Path
) -> None:
    change(what)
    with pytest.raises(UHFError, match="move this folder away to train it anew"):
        pretrain(pairs.id, "2d", 0, output=tmp_path / "keeper.safetensors", device=torch.device("cpu"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recorded", [True, False])
def test_a_keeper_file_never_names_another_split_than_that_of_its_training(
    recorded: bool, keeper: Any, pairs: TinyDataset, change: Change, tmp_path: Path
) -> None:
    path = FoldFolder(Path(keeper.output_folder)).checkpoint
    before = path.read_bytes()
    change("split")
    try:
        if not recorded:
            forget(keeper)
        with pytest.raises(UHFError, match=r"splits_final\.json now holds out case_01, case_02"):
            export_keeper(pairs.name, "2d", 0, output=tmp_path / "keeper.safetensors", accept_worse=True)
    finally:
        path.write_bytes(before)


def test_a_fold_begun_anew_keeps_the_finished_model_and_continues_from_the_new_one(pairs: TinyDataset) -> None:
    class UHFTeacherTrainerTwice(UHFTeacherTrainer):
        pass

    first = fit(tiny_trainer(UHFTeacherTrainerTwice, pairs, "2d"), validate=True)
    fold = FoldFolder(Path(first.output_folder))
    before = fold.checkpoint.read_bytes()
    second = tiny_trainer(UHFTeacherTrainerTwice, pairs, "2d", epochs=2)
    second.on_epoch_end = lambda: (type(second).on_epoch_end(second), stop())
    with pytest.raises(KeyboardInterrupt):
        fit(second)
    assert (fold.path / "earlier_1/checkpoint_final.pth").read_bytes() == before
    assert (fold.path / "earlier_1/validation/summary.json").is_file()
    assert not fold.checkpoint.exists()
    assert not fold.summary.exists()
    third = tiny_trainer(UHFTeacherTrainerTwice, pairs, "2d", epochs=2, continue_training=True)
    third.load_checkpoint(str(fold.any_checkpoint))
    assert third.current_epoch == 1
    fit(third)
    assert (fold.path / "earlier_1/checkpoint_final.pth").read_bytes() == before
    shutil.rmtree(first.output_folder_base)


def stop() -> None:
    raise KeyboardInterrupt
