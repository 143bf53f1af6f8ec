"""Keepers of the efficient preset: taught by a teacher or not, exported, and guiding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.distilled import final_weights, part
from helpers.support import fit, only_line, tiny_trainer
from helpers.tiny_data import TinyDataset
from nnunet_uhf.keepers.file import build_enhancer, build_keeper, read_keeper
from nnunet_uhf.networks.guided.guide import guide
from nnunet_uhf.networks.space_to_depth.keeper import SpaceToDepthKeeper
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer, UHFKeeperTrainerNoAdversarial
from nnunet_uhf.trainers.export.keeper import export_keeper
from nnunet_uhf.trainers.space_to_depth.direct import UHFKeeperTrainerDirect


@pytest.fixture
def efficient(teacher: Any, pairs: TinyDataset) -> Iterator[TinyDataset]:
    """The pairs, whose dataset.json asks for a narrow keeper of the preset, with a teacher."""
    path = pairs.preprocessed / "dataset.json"
    before = path.read_text()
    description = json.loads(before)
    description["uhf"].setdefault("architecture", {}).update(preset="efficient", width=8)
    path.write_text(json.dumps(description))
    yield pairs
    path.write_text(before)


@pytest.fixture
def reference_fold(teacher: Any, pairs: TinyDataset) -> Any:
    """A fold of the reference keeper, without a discriminator."""
    return fit(tiny_trainer(UHFKeeperTrainerNoAdversarial, pairs, "2d", iterations=1))


def test_a_keeper_of_the_preset_learns_from_the_teacher_is_exported_and_guides(
    teacher: Any, efficient: TinyDataset, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    trainer = fit(tiny_trainer(UHFKeeperTrainer, efficient, "2d"), validate=True)
    assert trainer.block.networks.network == "space_to_depth_unet"
    weights = final_weights(trainer)
    before = final_weights(teacher)
    after = part(weights, "teacher")
    assert all(torch.equal(before[name], after[name]) for name in before)  # frozen
    optimised = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in trainer.network.parameters() if p.requires_grad}
    terms = trainer.logger.get_value("train_terms", step=0)
    assert set(terms) == {"features", "statistics", "image", "adversarial", "discriminator"}

    path = export_keeper(  # after two steps it is worse than its input
        efficient.name,
        "2d",
        0,
        plans="nnUNetPlans",
        trainer="UHFKeeperTrainer",
        output=tmp_path / "k.safetensors",
        accept_worse=True,
    )
    file = read_keeper(path)
    assert file.header.network == "space_to_depth_unet"
    assert file.header.decoder_architecture is not None
    keeper = build_keeper(file)
    assert isinstance(keeper, SpaceToDepthKeeper)
    source = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(build_enhancer(file).eval()(source), trainer.network.eval()(source))
        for own, kept in zip(keeper.eval()(source), trainer.distillation.keeper(source), strict=True):
            assert torch.equal(own, kept)
    network = guided_network()
    guided = guide(network, keeper, preset="efficient").eval()
    with torch.no_grad():
        assert torch.equal(guided(source), network.eval()(source))


def test_the_direct_keeper_needs_no_teacher(efficient: TinyDataset) -> None:
    trainer = fit(tiny_trainer(UHFKeeperTrainerDirect, efficient, "2d"))
    assert {name.partition(".")[0] for name in final_weights(trainer)} == {"keeper", "decoder"}
    assert set(trainer.logger.get_value("train_terms", step=0)) == {"image"}


def test_folds_of_a_keeper_of_another_kind_are_refused_with_the_name_that_it_has_now(
    reference_fold: Any, efficient: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    line = only_line(capsys, lambda: tiny_trainer(UHFKeeperTrainerNoAdversarial, efficient, "2d"))
    assert '"preset": "light"' in line


def guided_network() -> torch.nn.Module:
    """A small U-Net of nnU-Net's."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(1, 3, [8, 16, 32], torch.nn.Conv2d, 3, [1, 2, 2], 2, 3, 2, norm_op=torch.nn.InstanceNorm2d)
