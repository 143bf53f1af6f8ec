"""Guided trainings whose fusions learn at a rate of their own, with whatever optimizer the backbone has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.variants.lr_schedule.nnUNetTrainer_warmup import nnUNetTrainer_warmup
from nnunetv2.training.nnUNetTrainer.variants.lr_schedule.nnUNetTrainerCosAnneal import nnUNetTrainerCosAnneal
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam

from helpers.guided_runs import checkpoint, model_folder, use_keeper
from helpers.support import fit, tiny_keeper, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.plans import write_plans
from nnunet_uhf.networks.presets import FUSION_RATE, PRESETS
from nnunet_uhf.trainers import UHFGuidance, UHFTrainer, UHFTrainerEnhancedInput, UHFTrainerTrainableKeeper
from nnunet_uhf.trainers.guided.optimizer import WithFusions


class GuidedAdam(UHFGuidance, nnUNetTrainerAdam):
    pass


class GuidedCosine(UHFGuidance, nnUNetTrainerCosAnneal):
    pass


class GuidedWarmup(UHFGuidance, nnUNetTrainer_warmup):
    pass


def parts(trainer: Any) -> tuple[set[int], set[int]]:
    """Ids of the parameters of the backbone's groups, and of the last group."""
    *backbone, own = trainer.optimizer.param_groups
    return {id(p) for group in backbone for p in group["params"]}, {id(p) for p in own["params"]}


@pytest.mark.parametrize(
    ("trainer", "optimizer", "rate"),
    [(UHFTrainer, torch.optim.SGD, 1e-2), (GuidedAdam, torch.optim.AdamW, 1e-2), (GuidedCosine, torch.optim.SGD, 1e-2)],
)
def test_the_backbone_keeps_optimizer_and_schedule_and_the_fusions_have_their_own(
    nnunet: Workspace, tmp_path: Path, trainer: type, optimizer: type, rate: float
) -> None:
    use_keeper(tmp_path, 2)
    made = tiny_trainer(trainer, nnunet.dataset("single"), "2d", epochs=2)
    made.initialize()
    network = made.guided_network
    backbone, own = parts(made)
    assert own == {id(parameter) for parameter in network.fusions.parameters()}
    frozen = {id(parameter) for parameter in network.keeper.parameters()}
    assert backbone == {id(parameter) for parameter in network.parameters()} - own - frozen
    assert type(made.optimizer.backbone) is optimizer
    fit(made)
    log = made.logger.get_value("lrs", None)
    assert log[0] == pytest.approx(rate)
    assert log[1] < rate
    assert made.optimizer.param_groups[-1]["lr"] == pytest.approx(FUSION_RATE * 0.5**0.9)
    assert all(bool((fusion.scale != 0).all()) for fusion in network.fusions)


def test_fusions_go_on_where_a_trainer_with_stages_makes_a_new_optimizer(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    made = tiny_trainer(GuidedWarmup, nnunet.dataset("single"), "2d", epochs=3)
    made.warmup_duration_whole_net = 1
    fit(made)
    steps = {float(state["step"]) for state in made.optimizer.own.state.values()}
    assert steps == {6.0}  # of three epochs of two steps


def test_a_keeper_that_is_trained_along_learns_with_the_backbone(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    made = tiny_trainer(UHFTrainerTrainableKeeper, nnunet.dataset("single"), "2d")
    made.initialize()
    assert {id(parameter) for parameter in made.guided_network.keeper.parameters()} <= parts(made)[0]


def test_a_network_without_fusions_keeps_one_optimizer(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    made = tiny_trainer(UHFTrainerEnhancedInput, nnunet.dataset("single"), "2d")
    made.initialize()
    assert type(made.optimizer) is torch.optim.SGD
    assert made.guidance.fusion_rate is None


def test_plans_say_the_rate_and_the_model_folder_keeps_it(nnunet: Workspace, tmp_path: Path) -> None:
    space = nnunet.private("single", tmp_path / "space")
    dataset = space.dataset("single")
    keeper = use_keeper(tmp_path, 2)
    path = write_plans(dataset.id, ["2d"], [keeper], output_name="slow", fusion_rate=1e-4)
    assert GuidedBlock.of(json.loads(path.read_text()), "2d").fusion_rate == 1e-4
    made = fit(tiny_trainer(UHFTrainer, dataset, "2d", plans="slow"))
    assert made.optimizer.rate == 1e-4
    saved = json.loads(
        (model_folder(space.results, UHFTrainer, dataset, "2d", plans="slow") / "plans.json").read_text()
    )
    assert saved["configurations"]["2d"]["uhf"]["fusion_rate"] == 1e-4
    with pytest.raises(UHFError, match=r"--fusion-rate 2: give a rate from 0 to 0\.1"):
        write_plans(dataset.id, ["2d"], [keeper], output_name="fast", fusion_rate=2.0)


@pytest.mark.parametrize("value", [-1e-3, 1.0, "3e-3", True, float("nan")])
def test_a_block_with_another_rate_is_refused(nnunet: Workspace, tmp_path: Path, value: object) -> None:
    use_keeper(tmp_path, 2)
    made = tiny_trainer(UHFTrainer, nnunet.dataset("single"), "2d")
    block = {**made.guidance.as_json(), "fusion_rate": value}
    with pytest.raises(UHFError, match="no valid fusion_rate"):
        GuidedBlock.parse(block, where="plans")


def test_without_a_word_in_the_plans_the_rate_is_the_presets(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    plans = tiny_trainer(UHFTrainer, nnunet.dataset("single"), "2d").plans_manager.plans
    block = plans["configurations"]["2d"]["uhf"]
    del block["fusion_rate"]  # as in plans of version 0.1.0
    block["preset"] = "paper"
    made = tiny_trainer(UHFTrainer, nnunet.dataset("single"), "2d", plans=plans)
    assert made.guidance.fusion_rate == PRESETS["paper"].fusion_rate == 2e-4


class StopsInTheSecondEpoch(UHFTrainer):
    """Killed where the second epoch begins; trained as version 0.1.0 did."""

    fusion_rate = 0.0

    def on_epoch_start(self) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        super().on_epoch_start()


StopsInTheSecondEpoch.__name__ = "UHFTrainer"


def test_a_training_of_one_optimizer_goes_on_with_one_and_its_plans_say_so(nnunet: Workspace, tmp_path: Path) -> None:
    dataset = nnunet.dataset("single")
    tiny_keeper(tmp_path, 2)
    use_keeper(tmp_path, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_trainer(StopsInTheSecondEpoch, dataset, "2d", epochs=2))
    folder = model_folder(nnunet.results, UHFTrainer, dataset, "2d")
    path = folder / "fold_0" / "checkpoint_latest.pth"
    assert "fusions" not in torch.load(path, weights_only=False)["optimizer_state"]
    made = tiny_trainer(UHFTrainer, dataset, "2d", epochs=2, continue_training=True)
    made.load_checkpoint(str(path))
    assert isinstance(made.optimizer, WithFusions)
    assert made.optimizer.rate == 0
    fit(made)
    final = checkpoint(folder)
    assert "fusions" not in final["optimizer_state"]
    assert final["init_args"]["plans"]["configurations"]["2d"]["uhf"]["fusion_rate"] == 0
    assert json.loads((folder / "plans.json").read_text())["configurations"]["2d"]["uhf"]["fusion_rate"] == 0
