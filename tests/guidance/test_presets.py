"""Presets: chosen by option or environment, written into the plans, and for keepers in dataset.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from helpers.keeper_samples import write
from helpers.made_plans import DATASET, make_plans
from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.attach import attach
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.choice import refuse_other_keeper
from nnunet_uhf.guidance.plans import write_plans
from nnunet_uhf.guidance.stated import StatedGuidance
from nnunet_uhf.keepers.file import read_header
from nnunet_uhf.networks import KnowledgeKeeper, UHFTeacher, build_guided_net
from nnunet_uhf.networks.guided.fusion import AdaptiveFusion
from nnunet_uhf.networks.guided.light_fusion import LightFusion
from nnunet_uhf.networks.guided.pointwise_fusion import PointwiseFusion
from nnunet_uhf.networks.presets import PRESET_VARIABLE, PRESETS
from nnunet_uhf.networks.space_to_depth.keeper import SpaceToDepthKeeper
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.routes.table import read_task
from nnunet_uhf.routes.training import LEARNERS, TrainingWishes

DATASET_JSON = {"channel_names": {"0": "T1w"}, "labels": {"background": 0}}


@pytest.fixture(autouse=True)
def _no_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (PRESET_VARIABLE, "nnUNet_UHF_GUIDE_CHANNEL"):
        monkeypatch.delenv(variable, raising=False)


def block_of(folder: Path, preset: str | None = None) -> GuidedBlock:
    header = read_header(write(folder / "keeper.safetensors", 2, seed=1, spacing_mm=(1.0, 1.0)))
    return attach(make_plans(), "2d", DATASET_JSON, header, preset=preset)


def test_a_preset_decides_the_fusion_and_is_named_in_the_block(tmp_path: Path) -> None:
    for name, preset in PRESETS.items():
        block = block_of(tmp_path, name)
        assert (block.preset, block.fusion) == (name, preset.fusion)
        assert GuidedBlock.parse(json.loads(json.dumps(block.as_json())), where="plans") == block


def test_the_environment_names_the_preset_and_an_option_overrules_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert block_of(tmp_path).preset == "reference"
    monkeypatch.setenv(PRESET_VARIABLE, "efficient")
    assert block_of(tmp_path).preset == "efficient"
    assert block_of(tmp_path, "reference").preset == "reference"
    monkeypatch.setenv(PRESET_VARIABLE, "fast")
    with pytest.raises(UHFError, match="'fast'; choose one of reference, efficient, light, paper"):
        block_of(tmp_path)
    with pytest.raises(UHFError, match="--preset is 'slow'"):
        block_of(tmp_path, "slow")


def test_plans_of_another_preset_have_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    folder = tmp_path / "preprocessed" / DATASET
    folder.mkdir(parents=True)
    (folder / "nnUNetPlans.json").write_text(json.dumps(make_plans()))
    (folder / "dataset.json").write_text(json.dumps(DATASET_JSON))
    keeper = write(tmp_path / "keeper.safetensors", 2, seed=1, spacing_mm=(1.0, 1.0))
    written = {name: write_plans(700, ["2d"], [keeper], preset=name) for name in PRESETS}
    for name in ("efficient", "light", "paper"):
        assert written[name].stem == f"{written['reference'].stem}_{name}"
        assert json.loads(written[name].read_text())["configurations"]["2d"]["uhf"]["preset"] == name


def test_folds_of_another_preset_are_refused_with_the_variable_that_helps(tmp_path: Path) -> None:
    now, before = block_of(tmp_path), block_of(tmp_path, "efficient")
    with pytest.raises(UHFError, match=f"trained with preset efficient, not reference; set {PRESET_VARIABLE}=effic"):
        refuse_other_keeper(now, before, ModelFolder(tmp_path))


@pytest.mark.parametrize(("preset", "kind"), [("efficient", PointwiseFusion), ("light", LightFusion)])
def test_an_efficient_guided_network_starts_as_the_plain_one(tmp_path: Path, preset: str, kind: type) -> None:
    torch.manual_seed(0)
    plain = PlainConvUNet(1, 3, [8, 16, 32], nn.Conv2d, 3, [1, 2, 2], 2, 3, 2, norm_op=nn.InstanceNorm2d).eval()
    image = torch.randn(2, 1, 32, 32)
    expected = plain(image)
    guided = build_guided_net(plain, block_of(tmp_path, preset).spec).eval()
    assert all(isinstance(fusion, kind) for fusion in guided.fusions)
    torch.testing.assert_close(guided(image), expected, atol=1e-6, rtol=0)


def test_the_papers_preset_guides_with_its_initialisation_and_gate_and_without_a_scale(tmp_path: Path) -> None:
    plain = PlainConvUNet(1, 3, [8, 16, 32], nn.Conv2d, 3, [1, 2, 2], 2, 3, 2, norm_op=nn.InstanceNorm2d).eval()
    guided = build_guided_net(plain, block_of(tmp_path, "paper").spec).eval()
    for fusion in guided.fusions:
        assert type(fusion) is AdaptiveFusion
        assert fusion.scale is None
        assert all(isinstance(attention.gate, nn.ReLU) for attention in (fusion.positive, fusion.negative))
        assert [projection.out_channels for projection in fusion.projections] == [
            max(1, fusion.combine_skip.in_channels // 5)
        ] * 5


def described(architecture: dict[str, Any]) -> dict[str, Any]:
    return {
        "channel_names": {"0": "LF", "1": "HF"},
        "uhf": {
            "source": "LF",
            "target": "HF",
            "source_field_T": 0.36,
            "target_field_T": 3.0,
            "architecture": architecture,
        },
    }


def test_dataset_json_may_ask_for_an_efficient_keeper_of_another_width() -> None:
    task = read_task(described({"preset": "efficient", "width": 24}), dataset="D")
    assert PRESETS[task.preset].network == "space_to_depth_unet"
    assert (
        SpaceToDepthKeeper(dim=3, **task.architecture_of(SpaceToDepthKeeper)).channels[0] == 24 + 8
    )  # of the folded image
    assert task.architecture_of(UHFTeacher) == {}  # its teacher is the reference's


def test_folds_of_what_version_0_1_0_called_efficient_are_gone_on_with_as_light(tmp_path: Path) -> None:
    light = block_of(tmp_path, "light")
    before = GuidedBlock.parse({**light.as_json(), "preset": "efficient"}, where="plans")
    refuse_other_keeper(light, before, ModelFolder(tmp_path))
    with pytest.raises(UHFError, match=f"trained with preset light, not efficient; set {PRESET_VARIABLE}=light"):
        refuse_other_keeper(block_of(tmp_path, "efficient"), before, ModelFolder(tmp_path))
    stated = StatedGuidance.read(before.as_json())
    assert stated is not None
    assert stated.preset == "light"


def test_dataset_json_may_ask_for_a_light_keeper_and_say_more() -> None:
    task = read_task(described({"preset": "light"}), dataset="D")
    keeper = KnowledgeKeeper(dim=3, **task.architecture_of(KnowledgeKeeper))
    assert (keeper.kernel_size, keeper.position_branch, keeper.base_features) == (3, False, 8)
    assert task.architecture_of(UHFTeacher) == {"base_features": 8, "convolutions": 1}
    overruled = read_task(described({"preset": "light", "kernel_size": 5}), dataset="D")
    assert overruled.architecture_of(KnowledgeKeeper)["kernel_size"] == 5
    with pytest.raises(UHFError, match=r"preset is 'tiny'; choose one of reference, efficient, light, paper"):
        read_task(described({"preset": "tiny"}), dataset="D")


@pytest.mark.parametrize(("dim", "convolutions"), [(2, 2), (3, 1)])
def test_dataset_json_may_ask_for_the_papers_networks_and_training(dim: int, convolutions: int) -> None:
    task = read_task(described({"preset": "paper"}), dataset="D")
    teacher = UHFTeacher(dim=dim, **task.architecture_of(UHFTeacher))
    assert (teacher.noise, teacher.noise_scale, teacher.noise_probability) == ("gaussian", 1.0, 1.0)
    keeper = KnowledgeKeeper(dim=dim, **task.architecture_of(KnowledgeKeeper))
    assert (keeper.base_features, keeper.kernel_size, keeper.position_branch) == (16, 7, True)
    assert keeper.convolutions == teacher.convolutions == convolutions
    wishes = task.pretraining
    assert wishes.learning_rates == dict.fromkeys(LEARNERS, 2e-4)
    assert (wishes.schedule, wishes.weights) == ("constant", {})
    assert task.training == TrainingWishes()  # of a trainer of another method


def test_what_dataset_json_says_of_the_training_overrules_the_preset() -> None:
    description = described({"preset": "paper"})
    description["uhf"]["training"] = {"learning_rate": {"keeper": 1e-4}, "weights": {"adversarial": 0}}
    wishes = read_task(description, dataset="D").pretraining
    assert wishes.learning_rates == {**dict.fromkeys(LEARNERS, 2e-4), "keeper": 1e-4}
    assert (wishes.schedule, wishes.weights) == ("constant", {"adversarial": 0.0})
