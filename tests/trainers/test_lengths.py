"""Trainers of a fixed length are found by name, for every trainer and number of epochs."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from helpers.guided_runs import use_keeper
from helpers.support import tiny_trainer
from helpers.workspace import Workspace, environment
from nnunet_uhf import trainers
from nnunet_uhf.installation.trainer_path import trainer_path
from nnunet_uhf.trainers.lengths import base_and_length


def test_names_with_digits_can_have_a_length_too() -> None:
    assert base_and_length("PTATrainer25D_5epochs") == ("PTATrainer25D", 5)
    assert issubclass(trainers.PTATrainer25D_5epochs, trainers.PTATrainer25D)


@pytest.mark.parametrize(
    ("name", "epochs"),
    [("UHFTrainer_1epoch", 1), ("UHFTrainerZeroGuide_37epochs", 37), ("UHFTrainer_1000epochs", 1000)],
)
def test_a_trainer_trains_as_long_as_its_name_says(nnunet: Workspace, tmp_path: Path, name: str, epochs: int) -> None:
    use_keeper(tmp_path, 2)
    dataset = nnunet.dataset("single")
    plans = {**dataset.plans(), "continue_training": False}
    trainer = getattr(trainers, name)(plans, "2d", 0, dataset.dataset_json())
    assert trainer.num_epochs == epochs
    assert type(trainer).__mro__[2] is getattr(trainers, name.partition("_")[0])
    assert Path(trainer.output_folder).parent.name.startswith(f"{name}__")


@pytest.mark.parametrize(
    "name",
    [
        *("UHFTrainer_0epochs", "UHFTrainer_1epochs", "UHFTrainer_5epoch", "UHFTrainer_05epochs", "NoTrainer_5epochs"),
        *("UHFTrainer_demo_5epochs", "UHFTrainer_5epochs_5epochs", "nnUNetTrainer_05epochs", "__path_5epochs"),
    ],
)
def test_names_that_mean_no_length_are_unknown(name: str) -> None:
    assert not hasattr(trainers, name)


def test_a_trainer_of_a_length_is_one_class_that_workers_can_unpickle() -> None:
    made = trainers.UHFKeeperTrainer_12epochs
    assert made is trainers.UHFKeeperTrainer_12epochs
    assert pickle.loads(pickle.dumps(made)) is made
    assert made.__doc__ == "UHFKeeperTrainer for 12 epochs."


def test_nnunet_finds_a_trainer_of_any_length() -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    with environment(nnUNet_extTrainer=trainer_path()):
        found = recursive_find_trainer_class_by_name("UHFTrainerUnfrozenKeeper_13epochs")
    assert found is trainers.UHFTrainerUnfrozenKeeper_13epochs


def test_lengths_of_one_trainer_do_not_mix(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    short, long = (tiny_trainer(f"UHFTrainer_{n}epochs", nnunet.dataset("single"), "2d", epochs=n) for n in (2, 3))
    assert (short.length, long.length) == (2, 3)


def test_plain_nnunet_is_there_at_every_length_beside_the_guided_one() -> None:
    plain = trainers.nnUNetTrainer_7epochs
    assert issubclass(plain, nnUNetTrainer)
    assert not issubclass(plain, trainers.UHFGuidance)
    assert recursive_find_trainer_class_by_name("nnUNetTrainer_7epochs") is plain
    with environment(nnUNet_extTrainer=trainer_path()):
        seeded = recursive_find_trainer_class_by_name("nnUNetTrainerSeeded_7epochs")
    assert seeded is trainers.nnUNetTrainerSeeded_7epochs
    assert issubclass(seeded, trainers.nnUNetTrainerSeeded)
    assert seeded.length == 7
