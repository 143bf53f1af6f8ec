"""Plans whose `uhf` block is damaged in any entry: prediction builds the same network, or ends with one line."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

import nnunet_uhf.trainers
from helpers.damage import damaged
from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.keepers.training_block import TrainingBlock

RESULTS = Path(__file__).parents[1] / "fixtures" / "v0_1_0" / "results"
MODELS = sorted(path.parent for path in RESULTS.glob("*/*/plans.json"))
#: Entries that may be another one of several, or are for people alone: no network depends on which.
FREE = {
    "format", "preset", "source_plans", "planned", "provenance", "discriminator", "noise", "noise_scale", "trainer",
    "noise_probability", "psnr", "input_psnr", "source_channel", "target_channel", "simulation", "same_field", "sha256",
    "training", "fusion_rate",
}  # fmt: skip


def trainer_of(model: Path) -> Any:
    return getattr(nnunet_uhf.trainers, model.name.split("_")[0])


def build(model: Path, block: Any) -> tuple[torch.nn.Module, PlansManager]:
    plans = json.loads((model / "plans.json").read_text())
    configuration = model.name.split("__")[-1]
    plans["configurations"][configuration]["uhf"] = block
    manager = PlansManager(copy.deepcopy(plans))
    planned = manager.get_configuration(configuration)
    channels = len(planned.normalization_schemes)
    return trainer_of(model).build_network_architecture(manager, planned, channels, 3, False), manager


def block_of(model: Path) -> Any:
    configuration = model.name.split("__")[-1]
    return json.loads((model / "plans.json").read_text())["configurations"][configuration]["uhf"]


def meaning(block: Any) -> Any:
    """What the network computes, as far as the block says it."""
    parse = GuidedBlock.parse if block["role"] == "guided" else TrainingBlock.parse
    read = parse(block, where="plans.json")
    return read.spec if isinstance(read, GuidedBlock) else (read.networks.network, read.networks.architecture)


GUIDED = [path for path in MODELS if block_of(path)["role"] == "guided" and "efficient" not in path.name]


@pytest.mark.parametrize("model", GUIDED, ids=lambda model: model.name)
def test_a_damaged_guided_block_means_the_same_or_is_refused_in_one_line(model: Path) -> None:
    sound = block_of(model)
    meant, ways = meaning(sound), list(damaged(sound))
    assert len(ways) > 51
    plans = json.loads((model / "plans.json").read_text())
    settings = plans["configurations"][model.name.split("__")[-1]]
    for path, change, block in ways:
        try:
            read = GuidedBlock.parse(block, where="plans.json")
            read.require_fit(settings, where="plans.json")
        except UHFError as error:
            assert_one_line(str(error), path, change)
        else:
            assert FREE & set(path) or meaning(block) == meant, (path, change)


@pytest.mark.parametrize("trainer", ["UHFTeacherTrainer", "UHFKeeperTrainer", "SIQTTrainerMasksembles"])
def test_a_damaged_block_of_a_training_builds_the_same_network_or_ends_with_one_line(
    trainer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = (path for path in MODELS if path.name.startswith(f"{trainer}__"))
    sound = {name: value for name, value in block_of(model).items() if name != "simulation"}  # no network needs it
    meant = meaning(sound)
    with torch.device("meta"):
        weights = shapes(build(model, sound)[0])
    for path, change, block in damaged(sound):
        capsys.readouterr()
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network, _ = build(model, block)
        except SystemExit:
            assert_one_line(capsys.readouterr().err.strip(), path, change)
        else:
            # a network of other weights is refused when it is given the checkpoint's
            assert FREE & set(path) or meaning(block) == meant or shapes(network) != weights, (path, change)


@pytest.mark.parametrize(
    "change", [{"role": "keeper"}, {"keeper": None}, {"fusion": {"init": "identity"}}, {"format": 9}]
)
def test_prediction_of_a_guided_model_with_a_damaged_block_ends_with_one_line(
    change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = GUIDED[0]
    with pytest.raises(SystemExit) as stopped:
        build(model, block_of(model) | change)
    assert stopped.value.code == 2
    assert_one_line(capsys.readouterr().err.strip(), (), str(change))


def shapes(network: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def assert_one_line(told: str, *way: object) -> None:
    assert "\n" not in told, way
    assert told.isprintable(), way
    assert 0 < len(told) < 1000, way


def test_weights_of_another_network_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = next(path for path in MODELS if path.name.startswith("UHFTrainer_1epoch__reference__2d"))
    network, _ = build(model, block_of(model))
    state = network.state_dict()
    other = {name: value for name, value in state.items() if not name.startswith("fusions.0")}
    with pytest.raises(SystemExit):
        network.load_state_dict(other)
    told = capsys.readouterr().err
    assert "the checkpoint is of another network" in told
    assert told.count("\n") == 1


def test_prediction_refuses_a_checkpoint_with_another_keeper_than_the_plans_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = next(path for path in MODELS if path.name.startswith("UHFTrainer_1epoch__reference__2d"))
    network, _ = build(model, block_of(model))
    wanted = block_of(model)["keeper"]["sha256"][:8]
    with pytest.raises(SystemExit) as stopped:  # the random weights that it was built with are not that keeper's
        network.load_state_dict(network.state_dict())
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert f"the plans name {wanted}" in told
    assert told.count("\n") == 1


def test_a_spacing_ratio_that_the_spacings_do_not_give_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    model = next(path for path in MODELS if path.name.startswith("UHFTrainer_1epoch__reference__2d"))
    block = block_of(model)
    block["spacing_ratio"] = [2.0, 2.0]
    with pytest.raises(SystemExit):
        build(model, block)
    assert "spacing ratio [2.0, 2.0]" in capsys.readouterr().err


def test_a_guide_channel_that_the_plans_do_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    model = next(path for path in MODELS if path.name.startswith("UHFTrainer_1epoch__reference__2d"))
    with pytest.raises(SystemExit):
        build(model, block_of(model) | {"guide_channel": 7})
    assert "channel 7" in capsys.readouterr().err
