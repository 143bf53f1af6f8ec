"""Keeper files of anisotropic U-Nets among plans: which of them guide, and what those that cannot are told."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from helpers.keeper_samples import anisotropic, statistics, write
from helpers.made_plans import make_plans
from nnunet_uhf.errors import MatchError, UHFError
from nnunet_uhf.guidance.attach import attach
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.keeper_files import KeeperFiles
from nnunet_uhf.guidance.plans import guided_plans
from nnunet_uhf.keepers.file import read_header

DATASET_JSON = {"channel_names": {"0": "T1w"}}
CANNOT = [({"ratio": 4, "slice_axis": 2}, "4 slices of one"), ({"masks": 16}, "16 masks")]


def keeper_file(path: Path, *, seed: int = 1, **changes: Any) -> Path:
    architecture = anisotropic(3, **changes)
    return write(path, 3, seed=seed, network="anisotropic_unet", architecture=architecture)


def block_of(path: Path) -> dict[str, Any]:
    return attach(make_plans(), "3d_fullres", DATASET_JSON, read_header(path)).as_json()


def chosen(*paths: Path) -> Path:
    return KeeperFiles(paths).choose(make_plans(), "3d_fullres", DATASET_JSON).file.path


def test_the_block_names_the_network_and_passes_its_check(tmp_path: Path) -> None:
    block = block_of(keeper_file(tmp_path / "siqt.safetensors"))
    assert block["keeper"]["network"] == "anisotropic_unet"
    assert block["keeper"]["architecture"] == anisotropic(3)
    GuidedBlock.parse(json.loads(json.dumps(block)), where="plans.json")


def test_the_block_of_a_knowledge_keeper_stays_as_it_was(tmp_path: Path) -> None:
    assert "network" not in block_of(write(tmp_path / "kkn.safetensors", 3))["keeper"]
    other = write(tmp_path / "other.safetensors", 3, feature_statistics=statistics((4, 8, 16, 32, 64)))
    assert block_of(other)["keeper"].keys() == {"architecture", "sha256", "provenance"}


def test_the_header_can_be_put_together_again_from_the_block(tmp_path: Path) -> None:
    path = keeper_file(tmp_path / "siqt.safetensors")
    block = GuidedBlock.parse(block_of(path), where="plans.json")
    assert block.keeper.header(where="plans.json") == read_header(path)


@pytest.mark.parametrize(("changes", "told"), CANNOT)
def test_what_cannot_guide_is_refused_with_the_reason_and_the_way_out(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = keeper_file(tmp_path / "siqt.safetensors", **changes)
    for attempt in (
        lambda: block_of(path),
        lambda: chosen(path),
        lambda: guided_plans(
            make_plans(), ["3d_fullres"], [path], dataset_json=DATASET_JSON, source_plans="nnUNetPlans"
        ),
    ):
        with pytest.raises(MatchError, match=told) as caught:
            attempt()
        message = str(caught.value)
        assert "can enhance but not guide" in message
        assert "Name another keeper" in message
        assert "\n" not in message


def test_a_file_that_cannot_guide_is_passed_over_in_a_folder_of_keepers(tmp_path: Path) -> None:
    native = keeper_file(tmp_path / "a.safetensors", ratio=4, slice_axis=2)
    keeper = write(tmp_path / "b.safetensors", 3, seed=2)
    assert chosen(native, keeper) == keeper
    plans = guided_plans(
        make_plans(), ["3d_fullres"], [tmp_path], dataset_json=DATASET_JSON, source_plans="nnUNetPlans"
    )
    assert plans["configurations"]["3d_fullres"]["uhf"]["keeper"]["sha256"] == read_header(keeper).sha256


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"network": "other_net"}, "other_net"),
        ({"network": ["x"]}, "network"),
        ({"network": "knowledge_keeper"}, "argument"),
        ({"architecture": anisotropic(3, ratio=4, slice_axis=2)}, "cannot guide: it makes 4 slices"),
        ({"architecture": anisotropic(3, masks=16)}, "cannot guide: it is an ensemble"),
        ({"architecture": anisotropic(3, base_features=4096)}, "base_features"),
    ],
)
def test_a_damaged_block_is_named_with_its_file(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    block = deepcopy(block_of(keeper_file(tmp_path / "siqt.safetensors")))
    block["keeper"].update(change)
    with pytest.raises(UHFError, match=told) as caught:
        GuidedBlock.parse(block, where="model/plans.json")
    assert "model/plans.json" in str(caught.value)
    assert "\n" not in str(caught.value)
