"""Plans that carry a keeper leave room for it in the memory planned for plain nnU-Net."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import GuidedBlock, KeeperEntry
from nnunet_uhf.guidance.memory import training_bytes
from nnunet_uhf.guidance.provenance import Provenance
from nnunet_uhf.guidance.reserve import _builder, reserve_notes, with_room
from nnunet_uhf.networks import KnowledgeKeeper, build_guided_net
from nnunet_uhf.networks.presets import PRESETS
from nnunet_uhf.networks.space_to_depth.keeper import SpaceToDepthKeeper

DATASET_JSON = {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "brain": 1, "csf": 2}, "file_ending": ".nii"}


def plans(patch: list[int], batch: int, *, preset: str = "light", features: int = 16, **keeper: Any) -> Any:
    """Plans as nnU-Net's planner writes them, with one convolution a stage and a guided block of a small keeper."""
    dim = len(patch)
    _, strides, kernels, _, _ = get_pool_and_conv_props([1.0] * dim, patch, 4, 999999)
    stages = len(strides)
    arguments = {
        "n_stages": stages,
        "features_per_stage": [features * 2**stage for stage in range(stages)],
        "conv_op": f"torch.nn.modules.conv.Conv{dim}d",
        "kernel_sizes": [list(kernel) for kernel in kernels],
        "strides": [list(step) for step in strides],
        "n_conv_per_stage": [1] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dim}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    architecture = json.loads(json.dumps(KnowledgeKeeper(dim=dim, **{"base_features": 4, **keeper}).config()))
    block = GuidedBlock(
        preset=preset,
        keeper=KeeperEntry(architecture=architecture, sha256="0" * 64, provenance=Provenance({})),
        guide_channels=(0,),
        spacing_ratio=[1.0] * dim,
        fusion=dict(PRESETS[preset].fusion),
    )
    entry = {
        "batch_size": batch,
        "patch_size": patch,
        "spacing": [1.0] * dim,
        "median_image_size_in_voxels": [1.1 * size for size in patch],
        "normalization_schemes": ["ZScoreNormalization"],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "uhf": block.as_json(),
    }
    return {"dataset_name": "D", "plans_name": "P", "label_manager": "LabelManager", "configurations": {"c": entry}}


def block_of(content: Any) -> GuidedBlock:
    block = GuidedBlock.of(content, "c")
    assert block is not None
    return block


def memory(content: Any, *, guided: bool) -> int:
    """What training with these plans is estimated to take."""
    settings, build = _builder(content, "c", DATASET_JSON)
    network = build(settings["architecture"])
    if guided:
        with torch.device("meta"):
            network = build_guided_net(network, block_of(content).spec)
    return training_bytes(network, (settings["batch_size"], build.channels, *settings["patch_size"]))


@pytest.fixture(scope="module")
def roomy() -> tuple[Any, Any]:
    """Plans with a batch of 24, and what is made of them."""
    before = plans([32, 32], 24)
    kept = copy.deepcopy(before)
    after = with_room(before, {"c": block_of(before)}, DATASET_JSON)
    assert before == kept
    return before, after


def test_the_batch_makes_room_first_and_by_no_more_than_it_must(roomy: tuple[Any, Any]) -> None:
    before, after = roomy[0], copy.deepcopy(roomy[1])
    entry, limit = after["configurations"]["c"], memory(before, guided=False)
    assert (entry["patch_size"], entry["uhf"]["planned"]) == ([32, 32], {"batch_size": 24})
    assert 2 <= entry["batch_size"] < 24
    assert memory(after, guided=True) <= limit < memory(before, guided=True)
    entry["batch_size"] += 1
    assert memory(after, guided=True) > limit


@pytest.mark.parametrize("patch", [[32, 48], [16, 32, 32]])
def test_a_batch_of_two_leaves_it_to_the_patch_which_stays_one_of_the_planners(patch: list[int]) -> None:
    before = plans(patch, 2)
    after = with_room(before, {"c": block_of(before)}, DATASET_JSON)
    entry = after["configurations"]["c"]
    assert entry["batch_size"] == 2
    assert entry["uhf"]["planned"] == {"patch_size": patch}
    assert memory(after, guided=True) <= memory(before, guided=False)
    _, strides, kernels, padded, _ = get_pool_and_conv_props([1.0] * len(patch), entry["patch_size"], 4, 999999)
    arguments = entry["architecture"]["arch_kwargs"]
    assert list(padded) == entry["patch_size"]
    assert [list(step) for step in strides] == arguments["strides"]
    assert [list(kernel) for kernel in kernels] == arguments["kernel_sizes"]
    assert len(arguments["features_per_stage"]) == len(strides) == arguments["n_stages"]
    assert len(arguments["n_conv_per_stage_decoder"]) == len(strides) - 1
    assert json.loads(json.dumps(after)) == after


def test_stages_set_by_hand_stay() -> None:
    before = plans([32, 32], 2)
    arguments = before["configurations"]["c"]["architecture"]["arch_kwargs"]
    for name, value in arguments.items():
        if isinstance(value, list):
            arguments[name] = value[:1] if name == "n_conv_per_stage_decoder" else value[:2]
    arguments["n_stages"] = 2
    entry = with_room(before, {"c": block_of(before)}, DATASET_JSON)["configurations"]["c"]
    assert entry["architecture"]["arch_kwargs"]["strides"] == arguments["strides"]
    assert all(size % 2 == 0 for size in entry["patch_size"])
    assert entry["patch_size"] != [32, 32]


def test_where_no_patch_makes_room_the_ways_out_are_named() -> None:
    # a keeper of millions of weights beside a network of thousands
    tight = plans([12, 12], 2, features=4, base_features=8)
    with pytest.raises(UHFError, match="efficient preset, or keep the plan"):
        with_room(tight, {"c": block_of(tight)}, DATASET_JSON)


def test_the_line_says_what_changed_and_how_to_keep_it(roomy: tuple[Any, Any]) -> None:
    before, after = roomy
    (note,) = reserve_notes(after)
    assert note.startswith(f"c: batch_size 24 -> {after['configurations']['c']['batch_size']}, so that")
    assert "--no-reserve" in note
    assert reserve_notes(before) == []


def test_guidance_that_takes_next_to_nothing_leaves_the_plan_alone() -> None:
    given = plans([128, 128, 128], 2, features=32)
    keeper = SpaceToDepthKeeper(dim=3)
    architecture = json.loads(json.dumps(keeper.config()))
    block = GuidedBlock(
        preset="efficient",
        keeper=KeeperEntry(
            network="space_to_depth_unet", architecture=architecture, sha256="0" * 64, provenance=Provenance({})
        ),
        guide_channels=(0,),
        spacing_ratio=[1.0] * 3,
        fusion=dict(PRESETS["efficient"].fusion),
    )
    made = with_room(given, {"c": block}, DATASET_JSON)["configurations"]["c"]
    assert made["batch_size"] == 2
    assert made["patch_size"] == [128, 128, 128]
    assert reserve_notes({"plans_name": "P", "configurations": {"c": made}}) == []
