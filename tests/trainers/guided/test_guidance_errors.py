"""A keeper that is missing, damaged or another one: one line, exit status 2, nothing written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from helpers.counting import count_calls
from helpers.guided_runs import KEEPER_VARIABLE, brief, forget_keeper, model_folder, refused, train, use_keeper
from helpers.support import run_command, tiny_keeper, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.guidance.plans import write_plans
from nnunet_uhf.installation.trainer_path import trainer_path
from nnunet_uhf.keepers import file as keeper_file
from nnunet_uhf.nnunet.plans_block import put_block
from nnunet_uhf.trainers import UHFGuidance, UHFTeacherTrainer, UHFTrainer


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def folders(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@contextmanager
def nothing_written(folder: Path) -> Iterator[None]:
    files, places = contents(folder), folders(folder)
    yield
    assert contents(folder) == files
    assert folders(folder) == places


def test_without_a_keeper_the_variable_and_the_way_to_one_are_named(
    nnunet: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with nothing_written(nnunet.results), refused(capsys, KEEPER_VARIABLE, "nnunet-uhf pretrain"):
        train(brief(UHFTrainer), nnunet.dataset("single"), "2d")


def test_the_training_command_ends_with_one_line_and_status_2(nnunet: Workspace) -> None:
    dataset = nnunet.dataset("single")
    with nothing_written(nnunet.results):
        done = run_command(
            ["nnUNetv2_train", dataset.id, "2d", "0", "-tr", "UHFTrainer", "-device", "cpu"],
            env={"nnUNet_extTrainer": trainer_path()},
            check=False,
        )
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "Warning" not in line][-1].startswith("error: no keeper: set")
    assert "Traceback" not in done.stderr


def pickle_file(path: Path) -> None:
    path.write_bytes(pickle.dumps({"keeper": 1}))


def altered_file(path: Path) -> None:
    tiny_keeper(path.parent, 2, name=path.name)
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(bytes(content))


def volume_keeper(path: Path) -> None:
    tiny_keeper(path.parent, 3, name=path.name)


def unnamed_channel(path: Path) -> None:
    tiny_keeper(path.parent, 2, "FLAIR", name=path.name)


def other_normalisation(path: Path) -> None:
    tiny_keeper(path.parent, 2, name=path.name, normalisation="CTNormalization")


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (None, "does not exist"),
        (pickle_file, "pickle"),
        (altered_file, "SHA-256"),
        (volume_keeper, "2D"),
        (unnamed_channel, "FLAIR"),
        (other_normalisation, "CTNormalization"),
    ],
)
def test_a_keeper_that_cannot_be_used_is_refused_before_anything_is_written(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, phrase: str
) -> None:
    path = tmp_path / "k.safetensors"
    if callable(make):
        make(path)
    os.environ[KEEPER_VARIABLE] = str(path)
    with nothing_written(nnunet.results), refused(capsys, phrase):
        train(brief(UHFTrainer), nnunet.dataset("single"), "2d")


def test_plans_and_folds_keep_to_their_keeper(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nnunet = nnunet.private("single", tmp_path / "own")
    dataset = nnunet.dataset("single")
    first = tiny_keeper(tmp_path, 2, name="first.safetensors", seed=1)
    second = tiny_keeper(tmp_path, 2, name="second.safetensors", seed=2)
    plans = write_plans(dataset.name, ["2d"], [first], output_name="guided").stem

    os.environ[KEEPER_VARIABLE] = str(second)
    with nothing_written(nnunet.results), refused(capsys, "the plans ask for keeper", "second.safetensors"):
        train(brief(UHFTrainer), dataset, "2d", plans=plans)

    os.environ[KEEPER_VARIABLE] = os.pathsep.join((str(first), str(second)))
    train(brief(UHFTrainer), dataset, "2d", plans=plans, disable_checkpointing=True)  # picked out of two by its hash

    # plain plans: the first fold decides for the folder
    os.environ[KEEPER_VARIABLE] = str(first)
    train(brief(UHFTrainer), dataset, "2d")
    os.environ[KEEPER_VARIABLE] = str(second)
    for options in ({"fold": 1}, {"fold": 0, "continue_training": True}, {"fold": 0, "only_run_validation": True}):
        with nothing_written(nnunet.results), refused(capsys, "trained with keeper", "nnunet-uhf plan"):
            train(brief(UHFTrainer), dataset, "2d", **options)

    # a fold without a checkpoint needs the file, one with a checkpoint can only go on from it
    forget_keeper()
    with nothing_written(nnunet.results), refused(capsys, "no keeper"):
        train(brief(UHFTrainer), dataset, "2d", fold=1)
    with refused(capsys, "not at hand", "--c"):
        train(brief(UHFTrainer), dataset, "2d")

    # the guidance itself may not differ between folds either
    folder = model_folder(nnunet.results, UHFTrainer, dataset, "2d")
    saved = json.loads((folder / "plans.json").read_text())
    saved["configurations"]["2d"]["uhf"]["fusion"]["gate"] = "relu"
    (folder / "plans.json").write_text(json.dumps(saved))
    os.environ[KEEPER_VARIABLE] = str(first)
    with nothing_written(nnunet.results), refused(capsys, "trained with fusion"):
        train(brief(UHFTrainer), dataset, "2d", fold=1)


def test_pretrained_weights_of_another_keeper_are_refused_before_training(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = nnunet.dataset("single")
    use_keeper(tmp_path / "a", 2, seed=1)
    train(brief(UHFTrainer), dataset, "2d")
    folder = model_folder(nnunet.results, UHFTrainer, dataset, "2d")
    weights = tmp_path / "other.pth"
    shutil.move(folder / "fold_0" / "checkpoint_final.pth", weights)
    shutil.rmtree(folder)
    use_keeper(tmp_path / "b", 2, seed=2)
    with refused(capsys, "-pretrained_weights", "nnunet-uhf init"):
        train(brief(UHFTrainer), dataset, "2d", pretrained_weights=str(weights))
    assert not (folder / "plans.json").exists()
    assert not list(folder.rglob("*.pth"))


def test_plans_of_an_image_to_image_trainer_are_refused(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keeper(tmp_path, 2)
    dataset = nnunet.dataset("single")
    plans = dataset.plans()
    plans["configurations"]["2d"]["uhf"] = {"format": 1, "role": "teacher"}
    with nothing_written(nnunet.results), refused(capsys, "role 'teacher'"):
        tiny_trainer(UHFTrainer, dataset, "2d", plans=plans)


class OneConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 1)


class PlainTrainer(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(*_: object) -> nn.Module:
        return OneConvolution()


class GuidedPlainTrainer(UHFGuidance, PlainTrainer):
    pass


def test_a_network_without_encoder_and_decoder_is_named(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    trainer = tiny_trainer(GuidedPlainTrainer, nnunet.dataset("single"), "2d")
    with pytest.raises(TypeError, match="OneConvolution cannot be guided"):
        trainer.initialize()


def test_the_network_of_unguided_plans_is_not_built_with_a_random_keeper(
    nnunet: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = PlansManager(nnunet.dataset("single").plans())
    with refused(capsys, "no uhf block"):
        UHFTrainer.build_network_architecture(plans, plans.get_configuration("2d"), 1, 4)


@pytest.mark.parametrize("trainer", [UHFTrainer, UHFTeacherTrainer])
def test_prediction_with_a_damaged_block_ends_with_one_line(
    nnunet: Workspace, capsys: pytest.CaptureFixture[str], trainer: type
) -> None:
    plans = nnunet.dataset("single").plans()
    role = "guided" if trainer is UHFTrainer else "teacher"
    put_block(plans, "2d", {"format": 1, "role": role})
    manager = PlansManager(plans)
    with refused(capsys, "plans nnUNetPlans: the uhf block"):  # as nnUNetv2_predict builds it
        trainer.build_network_architecture(manager, manager.get_configuration("2d"), 1, 4)


def test_a_training_opens_its_keeper_file_once(
    nnunet: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_keeper(tmp_path, 2)
    calls = count_calls(monkeypatch, keeper_file, "parse_header", "weights_sha256")
    trainer = tiny_trainer(UHFTrainer, nnunet.dataset("single"), "2d")
    trainer.initialize()
    assert calls == {"parse_header": 1, "weights_sha256": 2}  # keeper and decoder
    assert "content" not in vars(trainer.keeper_file)  # the network has the weights
