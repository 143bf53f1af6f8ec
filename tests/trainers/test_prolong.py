"""A finished training goes on to more epochs, by nnU-Net's own --c."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from helpers.guided_runs import brief, checkpoint, forget_keeper, refused, train, use_keeper
from helpers.tiny_data import PLANS, TinyDataset
from helpers.workspace import Workspace
from nnunet_uhf import trainers
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.trainers.prolong import longer_trainer, prolong

SHORT, LONG = "UHFTrainer_1epoch", "UHFTrainer_3epochs"


@pytest.fixture(scope="module")
def dataset(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> TinyDataset:
    """With the guided training SHORT finished, and folders of this file's own."""
    own = nnunet_module.private("single", tmp_path_factory.mktemp("single"))
    found = own.dataset("single")
    use_keeper(own.results, 2)
    train(brief(trainers.UHFTrainer_1epoch), found, "2d")
    forget_keeper()
    return found


def model(dataset: TinyDataset, trainer: str) -> ModelFolder:
    return ModelFolder.of(dataset.name, trainer, PLANS, "2d")


def asked(dataset: TinyDataset, **changed: Any) -> ModelFolder:
    options = {"trainer": SHORT, "epochs": 3, "plans": PLANS, **changed}
    return prolong(dataset.name, "2d", 0, **options)


@pytest.fixture(scope="module")
def longer(dataset: TinyDataset) -> dict[str, Any]:
    """The last checkpoint of the prolonged training."""
    assert asked(dataset).path == model(dataset, LONG).path
    train(brief(trainers.UHFTrainer_3epochs, epochs=3), dataset, "2d", continue_training=True)
    return checkpoint(model(dataset, LONG).path)


def test_it_begins_after_the_last_epoch_with_the_rate_of_the_longer_schedule(
    dataset: TinyDataset, longer: dict[str, Any]
) -> None:
    before = checkpoint(model(dataset, SHORT).path)
    assert (before["current_epoch"], longer["current_epoch"]) == (1, 3)
    assert longer["logging"]["train_losses"][0] == before["logging"]["train_losses"][0]
    optimizer = torch.optim.SGD([torch.zeros(1)], 1e-2)
    schedule = PolyLRScheduler(optimizer, 1e-2, 3)
    rates = []
    for epoch in (1, 2):
        schedule.step(epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    assert longer["logging"]["lrs"][1:] == pytest.approx(rates)


def test_keeper_and_record_of_the_data_come_along_without_the_keeper_file(
    dataset: TinyDataset, longer: dict[str, Any]
) -> None:
    before = checkpoint(model(dataset, SHORT).path)
    assert longer["trainer_name"] == LONG
    assert longer["init_args"]["uhf_data"] == before["init_args"]["uhf_data"]
    moved = {
        name for name, old in before["network_weights"].items() if not torch.equal(old, longer["network_weights"][name])
    }
    assert moved
    assert not any(name.startswith("keeper.") for name in moved)
    assert (model(dataset, LONG).fold(0).path / "checkpoint_best.pth").is_file()


def test_what_was_finished_stays_and_what_has_begun_is_not_begun_again(
    dataset: TinyDataset, longer: dict[str, Any]
) -> None:
    assert checkpoint(model(dataset, SHORT).path)["trainer_name"] == SHORT
    with pytest.raises(UHFError, match="go on there with --c"):
        asked(dataset)


def test_a_prolonged_training_is_refused_on_another_split(
    dataset: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(dataset, epochs=2)
    dataset.hold_out("case_03")
    with refused(capsys, "the fold anew, without --c"):
        train(brief(trainers.UHFTrainer_2epochs, epochs=2), dataset, "2d", continue_training=True)


def test_the_verb_prints_the_command_that_goes_on(dataset: TinyDataset, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"prolong -d {dataset.id} -c 2d -f 0 -p {PLANS} -tr {SHORT} --epochs 4"
    with pytest.raises(SystemExit) as left:
        main(words.split())
    assert left.value.code == 0
    shown = capsys.readouterr()
    assert shown.out == f"nnUNetv2_train {dataset.id} 2d 0 -tr UHFTrainer_4epochs -p {PLANS} --c\n"
    assert (model(dataset, "UHFTrainer_4epochs").fold(0).path / "checkpoint_latest.pth").is_file()


def test_what_cannot_be_prolonged_is_refused_in_one_line_and_leaves_nothing(dataset: TinyDataset) -> None:
    for changed, phrase in (
        ({"epochs": 1}, "1 epochs are trained; ask for more"),
        ({"trainer": "nnUNetTrainer", "epochs": 5}, "this fold is not finished"),
        ({"trainer": "UHFTrainer_demo", "epochs": 5}, "without an underscore"),
        ({"epochs": 10_000}, "choose 1 to 9999"),
    ):
        before = sorted(path.name for path in model(dataset, SHORT).path.parent.iterdir())
        with pytest.raises(UHFError, match=phrase):
            asked(dataset, **changed)
        assert sorted(path.name for path in model(dataset, SHORT).path.parent.iterdir()) == before


def test_a_checkpoint_without_its_optimiser_or_a_damaged_one_goes_nowhere(dataset: TinyDataset, tmp_path: Path) -> None:
    place = model(dataset, SHORT).fold(0).checkpoint
    content = checkpoint(model(dataset, SHORT).path)
    best = place.with_name("checkpoint_best.pth")
    whole, whole_best = place.read_bytes(), best.read_bytes()
    try:
        best.write_bytes(whole_best[:-100])
        with pytest.raises(UHFError, match=r"checkpoint_best\.pth"):
            asked(dataset, epochs=7)
        assert not model(dataset, "UHFTrainer_7epochs").path.exists()
        torch.save({name: value for name, value in content.items() if name != "optimizer_state"}, place)
        with pytest.raises(UHFError, match="it lacks optimizer_state"):
            asked(dataset, epochs=7)
        assert not model(dataset, "UHFTrainer_7epochs").path.exists()
    finally:
        place.write_bytes(whole)
        best.write_bytes(whole_best)


def test_every_trainer_of_a_length_has_a_longer_one() -> None:
    assert longer_trainer("nnUNetTrainer", 1500) == "nnUNetTrainer_1500epochs"
    assert longer_trainer("UHFKeeperTrainer_50epochs", 100) == "UHFKeeperTrainer_100epochs"
