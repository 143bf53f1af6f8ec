from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.distilled import final_weights, part
from helpers.fake_card import step_on_fake_card
from helpers.support import fit, only_line, tiny_trainer
from helpers.tiny_data import TinyDataset
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation import image_metrics as metrics
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.networks.distillation import losses
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer, UHFKeeperTrainerNoAdversarial
from nnunet_uhf.trainers.distillation.pretrain import pretrain
from nnunet_uhf.trainers.image_to_image.pair_source import Pair
from nnunet_uhf.trainers.prolong import prolong


def test_the_teacher_is_bit_identical_after_the_keepers_training(teacher: Any, keeper: Any) -> None:
    before = final_weights(teacher)
    after = part(final_weights(keeper), "teacher")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    frozen = list(keeper.distillation.teacher.parameters())
    assert all(parameter.grad is None for parameter in frozen)
    optimised = {id(p) for group in keeper.optimizer.param_groups for p in group["params"]}
    assert optimised.isdisjoint(id(parameter) for parameter in frozen)
    assert optimised == {id(p) for p in keeper.network.parameters() if p.requires_grad}


def test_keeper_and_discriminator_both_learn_from_one_step(teacher: Any, pairs: TinyDataset) -> None:
    trainer = tiny_trainer(UHFKeeperTrainer, pairs, "2d")
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    batch = {"data": torch.randn(2, 2, 32, 32)}
    trainer.network.train()
    trainer.train_step(batch)
    changed = {
        name.partition(".")[0] for name, value in trainer.network.state_dict().items() if not value.equal(before[name])
    }
    assert changed == {"keeper", "discriminator"}


def test_the_logged_terms_make_up_the_keepers_loss(keeper: Any) -> None:
    log = keeper.logger.local_logger.my_fantastic_logging
    terms = log["train_terms"][0]
    assert set(terms) == {"features", "statistics", "image", "adversarial", "discriminator"}
    assert sum(terms.values()) == pytest.approx(log["train_losses"][0], rel=1e-5)


def test_the_block_names_the_teacher_without_naming_a_place(teacher: Any, keeper: Any) -> None:
    plans = json.loads((Path(keeper.output_folder_base) / "plans.json").read_text())
    named = plans["configurations"]["2d"]["uhf"]["teacher"]
    assert named["trainer"] == "UHFTeacherTrainer"
    assert named["sha256"] == weights_sha256(final_weights(teacher))
    assert (named["psnr"], named["input_psnr"]) == (34.0, 20.0)
    assert str(Path(keeper.output_folder).parents[2]) not in json.dumps(plans)


def test_without_the_adversarial_term_there_is_no_discriminator(teacher: Any, pairs: TinyDataset) -> None:
    trainer = fit(tiny_trainer(UHFKeeperTrainerNoAdversarial, pairs, "2d", iterations=1))
    assert trainer.distillation.discriminator is None
    assert part(final_weights(trainer), "discriminator") == {}
    assert set(trainer.logger.get_value("train_terms", step=0)) == {"features", "statistics", "image"}


def test_a_finished_keeper_is_prolonged_with_its_teacher_and_its_discriminator(keeper: Any, pairs: TinyDataset) -> None:
    plans = keeper.plans_manager.plans_name
    prolong(pairs.name, "2d", 0, trainer="UHFKeeperTrainer", epochs=2, plans=plans)
    trainer = tiny_trainer("UHFKeeperTrainer_2epochs", pairs, "2d", iterations=1, epochs=2, continue_training=True)
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    before, began = final_weights(keeper), trainer.network.state_dict()
    assert all(torch.equal(began[name], before[name]) for name in before)
    fit(trainer)
    assert len(trainer.logger.get_value("train_losses", step=None)) == 2
    assert trainer.block.teacher_of("test").sha256 == keeper.block.teacher_of("test").sha256


def test_a_keepers_summary_carries_the_teachers_ceiling(teacher: Any, keeper: Any) -> None:
    summary = json.loads((Path(keeper.output_folder) / "validation" / "summary.json").read_text())
    dataset = keeper.dataset_class(keeper.preprocessed_dataset_folder, ["case_00"])
    data, labels, _, _ = dataset.load_case("case_00")
    ceiling = teacher.held_out_images().predict(teacher.network, data[[1]].astype("float32"))
    expected = metrics.image_quality(data[1] - data[1].min(), ceiling - data[1].min(), labels[0] > 0)
    assert summary["metric_per_case"][0]["teacher"] == pytest.approx(expected, rel=1e-5)
    assert summary["mean"]["teacher"] == summary["metric_per_case"][0]["teacher"]
    own = json.loads((Path(teacher.output_folder) / "validation" / "summary.json").read_text())
    assert own["metric_per_case"][0]["prediction"] == pytest.approx(expected, rel=1e-5)
    assert own["metric_per_case"][0]["input"] == summary["metric_per_case"][0]["input"]


def test_the_keeper_is_the_one_of_the_loss_functions(keeper: Any) -> None:
    source, target = torch.randn(2, 2, 1, 32, 32).unbind(1)
    keeper.network.eval()
    with torch.no_grad():
        losses_by_player, terms, image = keeper.compute(Pair(source=source, target=target))
        output = keeper.network(source, target)
    expected = {**losses.distillation_loss(output, target), **losses.discriminator_loss(output)}
    assert {k: float(v) for k, v in terms.items()} == pytest.approx({k: float(v) for k, v in expected.items()})
    judged = float(expected.pop("discriminator"))
    assert {k: float(v) for k, v in losses_by_player.items()} == pytest.approx(
        {"keeper": sum(float(v) for v in expected.values()), "discriminator": judged}
    )
    assert torch.equal(image, keeper.network(source).detach())


def test_a_keeper_does_not_continue_with_another_teacher(
    teacher: Any, keeper: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(teacher.output_folder) / "checkpoint_final.pth"
    before = path.read_bytes()
    content = torch.load(path, weights_only=False)
    content["network_weights"]["decoder.output.bias"] += 1
    torch.save(content, path)
    try:
        again = tiny_trainer(UHFKeeperTrainer, pairs, "2d", continue_training=True)
        checkpoint = str(Path(again.output_folder) / "checkpoint_final.pth")
        assert "learnt from teacher" in only_line(capsys, lambda: again.load_checkpoint(checkpoint))
        with pytest.raises(UHFError, match="delete the keeper's folder"):
            pretrain(pairs.name, "2d", 0, device=torch.device("cpu"))
    finally:
        path.write_bytes(before)


def test_a_replaced_teacher_is_noticed_before_training(
    teacher: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = tiny_trainer(UHFKeeperTrainer, pairs, "2d")
    trainer.initialize()
    with torch.no_grad():
        trainer.distillation.teacher.decoder.output.bias += 1  # as -pretrained_weights could
    assert "train without -pretrained_weights" in only_line(capsys, trainer.on_train_start)


def test_a_teacher_of_another_width_is_refused(
    teacher: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    description = pairs.dataset_json()
    description["uhf"]["architecture"] = {"base_features": 8}
    plans = {**pairs.plans(), "continue_training": False}
    error = only_line(capsys, lambda: UHFKeeperTrainer(plans, "2d", 0, description, device=torch.device("cpu")))
    assert "another value of base_features" in error


def test_a_keeper_has_the_convolutions_of_its_teacher_unless_dataset_json_asks_for_others(
    teacher: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    description = pairs.dataset_json()
    plans = {**pairs.plans(), "continue_training": False}
    fresh = type("UHFKeeperTrainerFresh", (UHFKeeperTrainer,), {})  # no folds of it are there
    follower = fresh(deepcopy(plans), "2d", 0, deepcopy(description), device=torch.device("cpu"))
    assert follower.block.networks.architecture["convolutions"] == 2
    assert follower.teacher.architecture["convolutions"] == 2
    description["uhf"]["architecture"]["convolutions"] = 1
    error = only_line(capsys, lambda: fresh(plans, "2d", 0, description, device=torch.device("cpu")))
    assert "another value of convolutions" in error


@pytest.mark.parametrize("name", ["UHFKeeperTrainer", "UHFKeeperTrainerNoAdversarial"])
def test_steps_of_a_keeper_leave_nothing_on_the_cpu(name: str, teacher: Any, pairs: TinyDataset) -> None:
    step_on_fake_card(tiny_trainer(name, pairs, "2d"))
