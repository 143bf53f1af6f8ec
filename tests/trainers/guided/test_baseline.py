"""A finished plain nnU-Net as the start of a guided one: by trainer, and by a checkpoint for -pretrained_weights."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from helpers.guided_runs import (
    KEEPER_VARIABLE,
    brief,
    checkpoint,
    forget_keeper,
    model_folder,
    refused,
    train,
    use_keeper,
)
from helpers.support import fit, predict_folder, tiny_keeper, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace, environment
from nnunet_uhf.errors import KeeperFileError, MatchError, UHFError
from nnunet_uhf.guidance.plans import write_plans
from nnunet_uhf.installation.trainer_path import trainer_path
from nnunet_uhf.keepers.file import read_keeper
from nnunet_uhf.trainers import UHFTrainer, UHFTrainerFromBaseline, UHFTrainerFromBaseline_5epochs
from nnunet_uhf.trainers.guided.baseline import write_initial_checkpoint

GUIDANCE = ("keeper.", "fusions.")
FINAL = "checkpoint_final.pth"


@dataclass(frozen=True)
class PlainModel:
    """A finished plain nnU-Net and a keeper for its data."""

    workspace: Workspace
    dataset: TinyDataset
    folder: Path
    keeper: Path


@pytest.fixture
def plain(nnunet: Workspace, tmp_path: Path, finished: Path) -> PlainModel:
    dataset = nnunet.dataset("single")
    folder = model_folder(nnunet.results, nnUNetTrainer, dataset, "2d")
    shutil.copytree(finished, folder)
    return PlainModel(nnunet, dataset, folder, use_keeper(tmp_path / "keeper", 2))


@pytest.fixture(scope="module")
def finished(nnunet_module: Workspace) -> Path:
    dataset = nnunet_module.dataset("single")
    train(brief(nnUNetTrainer), dataset, "2d")
    return model_folder(nnunet_module.results, nnUNetTrainer, dataset, "2d")


def backbone(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in weights.items() if not key.startswith(GUIDANCE)}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def assert_same_predictions(first: Path, second: Path, dataset: TinyDataset, work: Path) -> None:
    with environment(nnUNet_extTrainer=trainer_path()):
        folders = [
            predict_folder(model, dataset.raw / "imagesTs", work / str(number), save_probabilities=True)
            for number, model in enumerate((first, second))
        ]
    names = sorted(path.name for path in folders[0].glob("*.npz"))
    assert names
    for name in names:
        expected, present = (np.load(folder / name)["probabilities"] for folder in folders)
        np.testing.assert_allclose(present, expected, rtol=0, atol=1e-6)


def test_the_guided_training_starts_where_the_plain_model_ended(plain: PlainModel, tmp_path: Path) -> None:
    trainer = tiny_trainer(UHFTrainerFromBaseline, plain.dataset, "2d")
    trainer.initialize()
    assert_equal(backbone(trainer.network.state_dict()), checkpoint(plain.folder)["network_weights"])
    # a checkpoint of that state, put where nnU-Net looks for a finished model
    trainer.set_deep_supervision_enabled(False)
    trainer.inference_allowed_mirroring_axes = (0, 1)
    trainer.on_train_start()
    trainer.logger.local_logger.my_fantastic_logging["ema_fg_dice"].append(0.0)
    trainer.save_checkpoint(str(Path(trainer.output_folder) / FINAL))
    assert_same_predictions(plain.folder, Path(trainer.output_folder_base), plain.dataset, tmp_path / "predicted")


def test_after_training_the_keeper_is_intact_and_the_run_continues_without_the_plain_model(plain: PlainModel) -> None:
    train(brief(UHFTrainerFromBaseline), plain.dataset, "2d")
    folder = model_folder(plain.workspace.results, UHFTrainerFromBaseline, plain.dataset, "2d")
    trained = checkpoint(folder)["network_weights"]
    state = read_keeper(plain.keeper).keeper_state
    assert_equal({key: trained[f"keeper.{key}"] for key in state}, state)
    shutil.rmtree(plain.folder)
    with pytest.raises(SystemExit):  # anew it would start from scratch
        train(brief(UHFTrainerFromBaseline), plain.dataset, "2d")
    assert_equal(checkpoint(folder)["network_weights"], trained)
    forget_keeper()
    train(brief(UHFTrainerFromBaseline, epochs=2), plain.dataset, "2d", continue_training=True)
    assert checkpoint(folder)["current_epoch"] == 2


def test_a_plain_model_of_another_split_is_no_start(plain: PlainModel, capsys: pytest.CaptureFixture[str]) -> None:
    summary = plain.folder / "fold_0" / "validation" / "summary.json"
    content = json.loads(summary.read_text())
    content["metric_per_case"][0]["prediction_file"] = "validation/case_04.nii.gz"
    summary.write_text(json.dumps(content))
    trainer = tiny_trainer(UHFTrainerFromBaseline, plain.dataset, "2d")
    with refused(capsys, "its validation was of case_04", "the plain model has to be of this training's split"):
        trainer.run_training()
    assert not (Path(trainer.output_folder) / FINAL).exists()


def test_a_checkpoint_to_continue_from_is_not_overwritten_by_the_plain_model(plain: PlainModel) -> None:
    first = fit(tiny_trainer(UHFTrainerFromBaseline, plain.dataset, "2d"))
    second = tiny_trainer(UHFTrainerFromBaseline, plain.dataset, "2d", continue_training=True)
    second.load_checkpoint(str(Path(first.output_folder) / FINAL))
    assert_equal(second.network.state_dict(), first.network.state_dict())


def test_guided_plans_find_the_plain_model_of_the_plans_they_were_made_from(
    nnunet: Workspace, finished: Path, tmp_path: Path
) -> None:
    nnunet = nnunet.private("single", tmp_path / "own")
    dataset = nnunet.dataset("single")
    shutil.copytree(finished, model_folder(nnunet.results, nnUNetTrainer, dataset, "2d"))
    keeper = use_keeper(tmp_path / "keeper", 2)
    plans = write_plans(dataset.name, ["2d"], [keeper]).stem
    trainer = tiny_trainer(UHFTrainerFromBaseline, dataset, "2d", plans=plans)
    trainer.initialize()
    assert_equal(backbone(trainer.network.state_dict()), checkpoint(finished)["network_weights"])


def test_a_short_guided_training_prefers_the_plain_model_of_its_length(plain: PlainModel) -> None:
    trainer = tiny_trainer(UHFTrainerFromBaseline_5epochs, plain.dataset, "2d")
    assert trainer.baseline_checkpoint == plain.folder / "fold_0" / FINAL
    shorter = plain.folder.with_name(plain.folder.name.replace("nnUNetTrainer", "nnUNetTrainer_5epochs"))
    shutil.copytree(plain.folder, shorter)
    trainer = tiny_trainer(UHFTrainerFromBaseline_5epochs, plain.dataset, "2d")
    assert trainer.baseline_checkpoint == shorter / "fold_0" / FINAL


def test_a_missing_plain_model_is_one_line_and_nothing_is_written(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = nnunet.dataset("single")
    use_keeper(tmp_path, 2)
    with pytest.raises(SystemExit) as stopped:
        train(brief(UHFTrainerFromBaseline), dataset, "2d", fold=3)
    assert stopped.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert "fold_3" in error[0]
    assert f"nnUNetv2_train {dataset.name} 2d 3 -tr nnUNetTrainer -p nnUNetPlans" in error[0]
    assert not list(nnunet.results.rglob("*"))


def test_the_initial_checkpoint_predicts_what_the_plain_model_predicts(plain: PlainModel, tmp_path: Path) -> None:
    forget_keeper()
    written = write_initial_checkpoint(plain.folder, 0, plain.keeper, tmp_path / "new" / "init.pth")
    content = torch.load(written, weights_only=False)
    model = plain.workspace.results / plain.dataset.name / "UHFTrainer__nnUNetPlans__2d"
    (model / "fold_0").mkdir(parents=True)
    shutil.copy(written, model / "fold_0" / FINAL)
    shutil.copy(plain.folder / "dataset.json", model)
    (model / "plans.json").write_text(json.dumps(content["init_args"]["plans"]))
    assert_same_predictions(plain.folder, model, plain.dataset, tmp_path / "predicted")
    assert_equal(backbone(content["network_weights"]), checkpoint(plain.folder)["network_weights"])


def test_the_stock_option_takes_the_initial_checkpoint_and_restarts_only_the_heads(
    plain: PlainModel, tmp_path: Path
) -> None:
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    written = write_initial_checkpoint(plain.folder, 0, plain.keeper, tmp_path / "init.pth")
    trainer = tiny_trainer(UHFTrainer, plain.dataset, "2d")
    trainer.initialize()
    heads = {key: value.clone() for key, value in trainer.network.state_dict().items() if ".seg_layers." in key}
    load_pretrained_weights(trainer.network, str(written))
    loaded, expected = trainer.network.state_dict(), torch.load(written, weights_only=False)["network_weights"]
    for key, value in loaded.items():
        assert torch.equal(value, heads[key] if key in heads else expected[key]), key
    trainer.check_keeper()
    train(brief(UHFTrainer), plain.dataset, "2d", pretrained_weights=str(written), disable_checkpointing=True)


def test_the_same_inputs_give_the_same_initial_checkpoint(plain: PlainModel, tmp_path: Path) -> None:
    first, second = (
        torch.load(write_initial_checkpoint(plain.folder, 0, plain.keeper, tmp_path / name), weights_only=False)
        for name in ("first.pth", "second.pth")
    )
    assert_equal(first["network_weights"], second["network_weights"])


def test_nothing_half_written_is_left(plain: PlainModel, tmp_path: Path) -> None:
    output = tmp_path / "out" / "init.pth"
    write_initial_checkpoint(plain.folder, 0, plain.keeper, output)
    before = output.read_bytes()

    def interrupted(_: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    with mock.patch.object(torch, "save", interrupted), pytest.raises(KeyboardInterrupt):
        write_initial_checkpoint(plain.folder, 0, plain.keeper, output, overwrite=True)
    assert output.read_bytes() == before
    assert [path.name for path in output.parent.iterdir()] == ["init.pth"]


def test_no_file_is_replaced_unasked_and_none_of_the_plain_model_ever(plain: PlainModel, tmp_path: Path) -> None:
    output, final = tmp_path / "init.pth", plain.folder / "fold_0/checkpoint_final.pth"
    output.write_bytes(b"mine")
    with pytest.raises(UHFError, match=r"is there already.*--overwrite"):
        write_initial_checkpoint(plain.folder, 0, plain.keeper, output)
    assert output.read_bytes() == b"mine"
    before = final.read_bytes()
    with pytest.raises(UHFError, match="belongs to the plain model"):
        write_initial_checkpoint(plain.folder, 0, plain.keeper, final, overwrite=True)
    assert final.read_bytes() == before


def test_what_cannot_be_a_start_is_refused_and_nothing_is_written(plain: PlainModel, tmp_path: Path) -> None:
    output = tmp_path / "out" / "init.pth"
    with pytest.raises(UHFError, match="fold_4"):
        write_initial_checkpoint(plain.folder, 4, plain.keeper, output)
    with pytest.raises(KeeperFileError, match="does not exist"):
        write_initial_checkpoint(plain.folder, 0, tmp_path / "none.safetensors", output)
    with pytest.raises(MatchError, match="3D"):
        write_initial_checkpoint(plain.folder, 0, tiny_keeper(tmp_path, 3), output)
    plans = json.loads((plain.folder / "plans.json").read_text())
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 32]
    (plain.folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(UHFError, match="not the plain model of this network"):
        write_initial_checkpoint(plain.folder, 0, plain.keeper, output)
    (plain.folder / "plans.json").write_text("{")
    write_initial_checkpoint(plain.folder, 0, plain.keeper, tmp_path / "init.pth")  # its checkpoint knows the plans
    os.environ[KEEPER_VARIABLE] = str(plain.keeper)
    train(brief(UHFTrainer), plain.dataset, "2d")
    guided = model_folder(plain.workspace.results, UHFTrainer, plain.dataset, "2d")
    with pytest.raises(UHFError, match="guided already"):
        write_initial_checkpoint(guided, 0, plain.keeper, output)
    assert not output.parent.exists()
