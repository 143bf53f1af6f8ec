"""`"uhf": {"judge": MODEL_FOLDER}`: a finished segmentation model judges images of networks in training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from helpers.distilled import final_weights
from helpers.guided_runs import brief, model_folder, refused, train
from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.keepers.trained import describe_keeper
from nnunet_uhf.trainers import UHFKeeperTrainerDirect, UHFTeacherTrainer


@pytest.fixture(scope="module")
def workspace(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    own = nnunet_module.private("pairs", tmp_path_factory.mktemp("judged"))
    own.dataset("pairs").hold_out("case_00")
    yield own
    nnunet_module.activate()


@pytest.fixture(scope="module")
def judges(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished segmentation models of one channel by configuration."""
    own = nnunet_module.private("single", tmp_path_factory.mktemp("judges"))
    dataset = own.dataset("single")
    found = {}
    for configuration in ("2d", "3d_fullres"):
        train(brief(nnUNetTrainer), dataset, configuration)
        found[configuration] = model_folder(own.results, nnUNetTrainer, dataset, configuration)
    return found


def ask(dataset: TinyDataset, judge: Path | str, **training: Any) -> None:
    path = dataset.preprocessed / "dataset.json"
    content = json.loads(path.read_text())
    content["uhf"] |= {"judge": str(judge), "training": training}
    path.write_text(json.dumps(content))


@pytest.fixture
def pairs(judges: dict[str, Path], workspace: Workspace) -> TinyDataset:
    workspace.activate()
    dataset = workspace.dataset("pairs")
    ask(dataset, judges["2d"], weights={"judge": 3.0})
    return dataset


def test_the_term_is_zero_for_the_truth_alone_and_moves_the_image_not_the_judge(pairs: TinyDataset) -> None:
    trainer = tiny_trainer(UHFTeacherTrainer, pairs, "2d")
    judge = trainer.judge
    target = torch.rand(2, 1, 32, 32)
    assert judge.distance(target, target).item() == 0
    image = (target + 0.2 * torch.randn_like(target)).requires_grad_()
    near, far = judge.distance(image, target), judge.distance(torch.rand_like(target), target)
    assert 0 < near < far
    near.backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    trainer.initialize()
    before = judge.record["sha256"]
    batch = next(trainer.get_dataloaders()[1])
    judged = trainer.outcome_of(batch)
    assert judged.terms["judge"].item() == pytest.approx(
        3 * judge.distance(judged.image, trainer.pair_of(batch).target).item(), rel=1e-3
    )
    others = sum(judged.terms[name].item() for name in ("image", "reconstruction", "judge"))
    assert judged.losses["network"].item() == pytest.approx(others, rel=1e-4)
    trainer.learn(judged.losses)
    assert weights_sha256(judge._source.network.state_dict()) == before


def test_the_judge_is_named_in_log_block_and_header_and_is_in_no_checkpoint(pairs: TinyDataset) -> None:
    trainer = fit(tiny_trainer(UHFKeeperTrainerDirect, pairs, "2d"), validate=True)
    record = trainer.block.training["judge"]
    assert record["dataset"] == "Dataset501_Tiny"
    assert set(trainer.logger.get_value("train_terms", step=0)) == {"image", "judge"}
    log = next(Path(trainer.output_folder).glob("training_log_*.txt")).read_text()
    assert "Images are judged by Dataset501_Tiny/" in log
    assert "judge 3" in log
    header = describe_keeper(
        trainer.block, trainer.plans_manager.plans, "2d", trainer.dataset_json, fold=0, where="here"
    )
    assert header.supervision == {"judge": {**record, "weight": 3.0}}
    assert not any("judge" in name for name in final_weights(trainer))


def test_a_training_does_not_go_on_with_another_judge(
    pairs: TinyDataset, judges: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tiny_trainer(UHFTeacherTrainer, pairs, "2d"))
    path = pairs.preprocessed / "dataset.json"
    content = json.loads(path.read_text())
    del content["uhf"]["judge"]
    path.write_text(json.dumps(content))
    trainer = tiny_trainer(UHFTeacherTrainer, pairs, "2d", continue_training=True)
    with refused(capsys, "trained with another uhf.judge"):
        trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))


@pytest.mark.parametrize(("judge", "told"), [("nowhere", "is no folder"), ("3d_fullres", "has dimensions 3")])
def test_a_judge_of_other_images_is_refused(
    judge: str, told: str, pairs: TinyDataset, judges: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ask(pairs, judges.get(judge, judge))
    with refused(capsys, told):
        tiny_trainer(UHFTeacherTrainer, pairs, "2d")
