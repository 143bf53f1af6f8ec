"""Rates, schedule and weights that a dataset.json asks for reach optimiser, loss, log and block."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.support import fit, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.losses import LABELLED_KEEPER_WEIGHTS, SEGMENTATION_TEACHER_WEIGHTS
from nnunet_uhf.networks.distillation.teacher import UHFTeacher
from nnunet_uhf.networks.distillation.training import DistillationNet
from nnunet_uhf.networks.presets import PRESETS
from nnunet_uhf.routes.task import EnhancementTask
from nnunet_uhf.routes.training import JUDGE, LEARNERS, SCHEDULES, WEIGHTS, TrainingWishes
from nnunet_uhf.trainers import (
    CUTTrainer,
    LSCTrainer,
    PTATrainer,
    SGPTrainer,
    SIQTTrainer,
    UHFKeeperTrainer,
    UHFKeeperTrainerNoAdversarial,
    UHFTeacherTrainer,
    UniCOALTrainer,
)
from nnunet_uhf.trainers.image_to_image import players
from nnunet_uhf.trainers.image_to_image.asked import TrainsAsAsked

PAPER = {"image": 100.0, "reconstruction": 1.0}
KEEPER = {"features": 1.0, "statistics": 1.0, "image": 100.0, "adversarial": 0.5, "discriminator": 0.5}


def asked(kind: type[TrainsAsAsked], *, preset: str = "reference", **wishes: Any) -> Any:
    """A trainer, not yet started, of a dataset that asks for this."""
    trainer: Any = kind.__new__(kind)
    trainer.initial_lr, trainer.num_epochs = trainer.learning_rate, 10
    trainer.grad_scaler, trainer.device = None, torch.device("cpu")
    task = EnhancementTask(
        source="LF",
        target="HF",
        source_channel=0,
        target_channel=1,
        source_field_T=0.36,
        target_field_T=7.0,
        route="paired",
        architecture={},
        preset=preset,
        training=TrainingWishes(**wishes),
    )
    trainer.take_wishes(task)
    return trainer


def distillation_net(*, adversarial: bool = True) -> DistillationNet:
    judge = PatchDiscriminator(dim=2, base_features=4) if adversarial else None
    return DistillationNet(KnowledgeKeeper(dim=2, base_features=4), UHFTeacher(dim=2, base_features=4), judge)


def test_every_name_that_may_be_asked_for_is_somebodys() -> None:
    kinds = (UHFTeacherTrainer, UHFKeeperTrainer, SGPTrainer, LSCTrainer, PTATrainer, CUTTrainer, UniCOALTrainer)
    assert set(LEARNERS) == {name for kind in kinds for name in kind.learners}
    labelled = {*SEGMENTATION_TEACHER_WEIGHTS, *LABELLED_KEEPER_WEIGHTS}  # by uhf.teacher
    assert set(WEIGHTS) == {name for kind in kinds for name in kind.own_weights} | labelled | {JUDGE}
    assert set(SCHEDULES) == set(players.SCHEDULES)


def test_without_wishes_a_training_is_the_trainers_own() -> None:
    teacher = asked(UHFTeacherTrainer)
    assert teacher.training_record() == {"learning_rate": {"teacher": 1e-3}, "schedule": "polynomial", "weights": PAPER}
    keeper = asked(UHFKeeperTrainer)
    rates = {"keeper": 1e-3, "discriminator": 1e-3}
    assert keeper.training_record() == {"learning_rate": rates, "schedule": "polynomial", "weights": KEEPER}
    plain = asked(UHFKeeperTrainerNoAdversarial).training_record()
    assert plain["learning_rate"] == {"keeper": 1e-3}
    assert plain["weights"] == {name: KEEPER[name] for name in ("features", "statistics", "image")}
    assert asked(SIQTTrainer).training_record()["weights"] == {}


def test_the_papers_preset_trains_teacher_and_keeper_at_its_constant_rate_and_leaves_siqt_alone() -> None:
    for kind in (UHFTeacherTrainer, UHFKeeperTrainer):
        record = asked(kind, preset="paper").training_record()
        assert record["learning_rate"] == dict.fromkeys(kind.learners, 2e-4)
        assert (record["schedule"], record["weights"]) == ("constant", dict(kind.own_weights))
    assert asked(SIQTTrainer, preset="paper").training_record() == asked(SIQTTrainer).training_record()
    assert set(PRESETS["efficient"].training) == set()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_keeper_and_discriminator_learn_at_rates_of_their_own_by_the_schedule(schedule: str) -> None:
    trainer = asked(UHFKeeperTrainer, learning_rates={"keeper": 5e-4, "discriminator": 1e-4}, schedule=schedule)
    trainer.network = distillation_net()
    optimiser, rates = trainer.configure_optimizers()
    assert [player.name for player in trainer._learning] == ["keeper", "discriminator"]
    for epoch in (0, 9):
        rates.step(epoch)
        share = 1.0 if schedule == "constant" else (1 - epoch / 10) ** 0.9
        assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([5e-4 * share, 1e-4 * share])


def test_a_rate_of_one_network_leaves_the_others_theirs() -> None:
    trainer = asked(UHFKeeperTrainer, learning_rates={"discriminator": 1e-4, "teacher": 1.0})
    assert (trainer.rate_of("keeper"), trainer.rate_of("discriminator")) == (1e-3, 1e-4)
    assert asked(SIQTTrainer, learning_rates={"keeper": 5e-4}).rate_of("network") == 5e-4
    assert asked(UHFTeacherTrainer, learning_rates={"teacher": 5e-4}).rate_of("network") == 5e-4


def test_the_clip_that_is_asked_for_is_every_players() -> None:
    trainer = asked(UHFKeeperTrainer, gradient_clip=1e-3)
    trainer.network = distillation_net()
    trainer.configure_optimizers()
    for parameter in trainer.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer._clip_gradients()
    for player in trainer._learning:
        norm = torch.linalg.vector_norm(torch.stack([parameter.grad.norm() for parameter in player.parameters]))
        assert norm.item() == pytest.approx(1e-3, rel=1e-3)
    assert trainer.training_record()["gradient_clip"] == 1e-3
    assert "gradients clipped at 0.001" in trainer.training_line()
    assert "clip" not in asked(UHFKeeperTrainer).training_line()


def test_weights_reach_the_losses_of_both_players_and_zero_leaves_a_term_out() -> None:
    torch.manual_seed(0)
    net = distillation_net()
    weights = {"features": 2.0, "statistics": 0.0, "image": 10.0, "adversarial": 0.25, "discriminator": 1.0}
    own, other = asked(UHFKeeperTrainer), asked(UHFKeeperTrainer, weights=weights)
    pair: Any = type("Pair", (), {"source": torch.randn(2, 1, 32, 32), "target": torch.randn(2, 1, 32, 32)})
    outcomes = []
    for trainer in (own, other):
        trainer.network = net
        outcomes.append(trainer.compute(pair))
    before, after = (outcome.terms for outcome in outcomes)
    for name, weight in weights.items():
        assert after[name].item() == pytest.approx(before[name].item() * weight / KEEPER[name], rel=1e-5)
    judged = outcomes[1].losses["discriminator"]
    assert judged.item() == pytest.approx(2 * before["discriminator"].item(), rel=1e-5)


def test_what_was_asked_for_is_trained_with_and_written_down(nnunet: Workspace) -> None:
    dataset = nnunet.dataset("pairs")
    description, read = dataset.dataset_json(), deepcopy(dataset.dataset_json())
    read["uhf"]["training"] = {"learning_rate": 3e-4, "schedule": "constant", "weights": {"image": 7}}
    assert "training" not in description["uhf"]
    trainer = tiny_trainer(UHFTeacherTrainer, Asking(dataset, read), "2d", iterations=1, epochs=2)
    fit(trainer)
    log = trainer.logger.local_logger.my_fantastic_logging
    assert log["lrs"] == [3e-4, 3e-4]
    plans = json.loads((Path(trainer.output_folder_base) / "plans.json").read_text())
    record = TrainingBlock.of(plans, "2d", where="plans.json").training
    assert record == {
        "learning_rate": {"teacher": 3e-4},
        "schedule": "constant",
        "weights": {"image": 7.0, "reconstruction": 1.0},
    }
    (text,) = (path.read_text() for path in Path(trainer.output_folder).glob("training_log*.txt"))
    assert "Learning rate: teacher 0.0003, constant; weights of the loss: image 7, reconstruction 1" in text


class Asking:
    """A dataset under another dataset.json."""

    def __init__(self, dataset: Any, description: dict[str, Any]) -> None:
        self.dataset, self.description = dataset, description

    def plans(self, name: str | None = None) -> Any:
        return self.dataset.plans(name)

    def dataset_json(self) -> dict[str, Any]:
        return deepcopy(self.description)
