"""`nnunet-uhf pretrain`: teacher, keeper and keeper file in a row, of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from helpers.distilled import final_weights, part, praise
from helpers.tiny_data import TinyDataset
from nnunet_uhf import trainers
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.model_folder import FoldFolder, Progress
from nnunet_uhf.trainers.distillation import pretrain as pretraining
from nnunet_uhf.trainers.distillation.pretrain import pretrain


@pytest.mark.parametrize(
    ("epochs", "suffix"),
    [("1", "_1epoch"), ("7", "_7epochs"), ("_50epochs", "_50epochs"), ("1epoch", "_1epoch"), ("2000", "_2000epochs")],
)
def test_pretraining_takes_teacher_and_keeper_of_any_length(
    epochs: str, suffix: str, pairs: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    monkeypatch.setattr(pretraining, "run_training", lambda *words, **_: trained.append(words[3]))
    monkeypatch.setattr(pretraining, "export_keeper", lambda *_, **options: Path(options["output"]))
    pretrain(pairs.id, "2d", 0, output="keeper.safetensors", device=torch.device("cpu"), epochs=epochs)
    assert trained == [f"UHFTeacherTrainer{suffix}", f"UHFKeeperTrainer{suffix}"]
    assert all(issubclass(getattr(trainers, name), nnUNetTrainer) for name in trained)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (Progress.NEW, {"continue_training": False, "only_run_validation": False}),
        (Progress.STARTED, {"continue_training": True, "only_run_validation": False}),
        (Progress.TRAINED, {"continue_training": False, "only_run_validation": True}),
        (Progress.FINISHED, None),
    ],
)
def test_pretraining_goes_on_where_it_stopped(
    state: Progress, expected: dict[str, bool] | None, pairs: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(pretraining, "run_training", lambda *words, **options: calls.append((words[3], options)))
    monkeypatch.setattr(FoldFolder, "progress", state)
    monkeypatch.setattr(pretraining, "_check_same_teacher", lambda *_: None)
    monkeypatch.setattr(pretraining, "_check_same_data", lambda *_: None)
    monkeypatch.setattr(pretraining, "export_keeper", lambda *_, **options: Path(options["output"]))
    device = torch.device("cpu")
    written = pretrain(pairs.id, "2d", 0, output="keeper.safetensors", device=device, epochs="5")
    assert written == Path("keeper.safetensors")
    names = ["UHFTeacherTrainer_5epochs", "UHFKeeperTrainer_5epochs"]
    assert calls == ([] if expected is None else [(name, {**expected, "device": device}) for name in names])


def test_pretraining_runs_nnunets_own_training_and_writes_a_keeper_file(
    teacher: Any, keeper: Any, pairs: TinyDataset
) -> None:
    from nnunet_uhf.keepers.file import read_keeper

    summary = Path(keeper.output_folder) / "validation" / "summary.json"
    summary.unlink()
    with pytest.raises(UHFError, match="worse than the low-field input"):  # two training steps: no wonder
        pretrain(pairs.id, "2d", 0, device=torch.device("cpu"))
    assert summary.is_file()
    praise(keeper, 33.0)
    path = pretrain(pairs.id, "2d", 0, device=torch.device("cpu"))
    trained = part(final_weights(keeper), "keeper")
    written = read_keeper(path).keeper_state
    assert trained.keys() == written.keys()
    assert all(torch.equal(trained[name], written[name]) for name in trained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("999", "2d", 0, ""), "dataset 999"),
        (("505", "2d", 0, "0"), "--epochs is '0': give a whole number from 1 to 9999"),
        (("505", "2d", 0, "ten"), "--epochs is 'ten'"),
        (("505", "2d", 0, "10000"), "--epochs is '10000'"),
    ],
)
def test_pretraining_says_in_one_line_what_is_wrong(
    arguments: tuple[str, str, int, str], message: str, pairs: TinyDataset
) -> None:
    dataset, configuration, fold, epochs = arguments
    with pytest.raises(UHFError, match=message) as caught:
        pretrain(dataset, configuration, fold, device=torch.device("cpu"), epochs=epochs)
    assert "\n" not in str(caught.value)


def test_pretraining_asks_for_plans_that_exist(pairs: TinyDataset) -> None:
    with pytest.raises(UHFError, match=r"nnUNetPlansNone\.json: no such plans"):
        pretrain(pairs.id, "2d", 0, plans="nnUNetPlansNone", device=torch.device("cpu"))


def test_a_name_that_no_keeper_file_may_have_is_refused_before_training(
    pairs: TinyDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "run_training", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(UHFError, match=r"must end in \.safetensors"):
        pretrain(pairs.id, "2d", 0, output=tmp_path / "keeper.pth", device=torch.device("cpu"), epochs="3")
