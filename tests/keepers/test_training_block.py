"""The `uhf` block of a teacher's or keeper's training."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.nnunet.plans_block import put_block

MODELS = Path(__file__).parents[1] / "fixtures" / "v0_1_0" / "results"
PLANS = {
    name: MODELS / dataset / f"{trainer}__nnUNetPlans__2d" / "plans.json"
    for name, dataset, trainer in (
        ("teacher", "Dataset505_TinyPairs", "UHFTeacherTrainer"),
        ("keeper", "Dataset505_TinyPairs", "UHFKeeperTrainer"),
        ("siqt", "Dataset509_TinyHighField", "SIQTTrainerMasksembles"),
    )
}


def plans_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(PLANS[name].read_text())
    return content


def written(name: str, **changes: Any) -> dict[str, Any]:
    """The block that version 0.1.0 wrote."""
    block: dict[str, Any] = {**plans_of(name)["configurations"]["2d"]["uhf"], **changes}
    return {key: value for key, value in block.items() if value is not ...}


CHANGES = [
    *((name, {}) for name in PLANS),
    ("keeper", {"discriminator": None}),
    ("keeper", {"same_field": True}),
    ("keeper", {"segments": {"dim": 2}}),
]


@pytest.mark.parametrize(("name", "changes"), CHANGES)
def test_what_stands_in_plans_comes_back_as_it_was(name: str, changes: dict[str, Any]) -> None:
    block = written(name, **changes)
    assert TrainingBlock.parse(block, where="plans.json").as_json() == block


def test_what_version_0_1_0_left_unsaid_of_its_networks_is_what_it_built() -> None:
    teacher, keeper, siqt = (TrainingBlock.parse(written(name), where="plans.json").networks for name in PLANS)
    assert teacher.architecture["convolutions"] == keeper.architecture["convolutions"] == 1
    assert keeper.teacher is not None
    assert keeper.teacher.architecture["convolutions"] == 1
    assert siqt.architecture["pooling"] == "average"


@pytest.mark.parametrize(("name", "entry", "value"), [("keeper", "convolutions", 2), ("siqt", "pooling", "max")])
def test_what_later_networks_have_stands_in_the_block(name: str, entry: str, value: object) -> None:
    block = written(name)
    block["architecture"][entry] = value
    parsed = TrainingBlock.parse(block, where="plans.json")
    assert parsed.networks.architecture[entry] == value
    assert parsed.as_json() == block


def test_a_block_is_found_in_plans_and_written_into_them() -> None:
    plans = plans_of("keeper")
    block = TrainingBlock.of(plans, "2d", where="plans.json")
    other = copy.deepcopy(plans)
    del other["configurations"]["2d"]["uhf"]
    put_block(other, "2d", block.as_json(), patch_size=[8, 8])
    assert other["configurations"]["2d"].pop("patch_size") == [8, 8]
    assert other["configurations"]["2d"].items() <= plans["configurations"]["2d"].items()


def test_a_keeper_learns_the_target_and_as_a_same_field_control_the_source() -> None:
    assert TrainingBlock.parse(written("keeper"), where="plans.json").learnt_channel == 1
    assert TrainingBlock.parse(written("keeper", same_field=True), where="plans.json").learnt_channel == 0


def test_a_simulated_source_has_the_field_of_its_preset() -> None:
    assert TrainingBlock.parse(written("siqt"), where="plans.json").simulated_field == 0.36
    assert TrainingBlock.parse(written("keeper"), where="plans.json").simulated_field is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"role": "guided"}, "role 'guided'"),
        ({"role": ...}, "role None"),
        ({"format": 2}, "format 2"),
        ({"source_channel": "0"}, "source_channel"),
        ({"target_channel": ...}, "target_channel"),
        ({"architecture": ...}, "architecture"),
        ({"network": 3}, "network"),
        ({"teacher": {"sha256": "0"}}, "teacher"),
        ({"simulation": {"preset": "t1w"}}, "simulation"),
    ],
)
def test_a_damaged_block_is_refused_with_its_file_and_the_entry_in_one_line(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UHFError, match=f"^model/plans.json: .*{named}") as refusal:
        TrainingBlock.parse(written("keeper", **changes), where="model/plans.json")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("block", [None, [], "keeper"])
def test_what_is_no_block_is_refused(block: object) -> None:
    with pytest.raises(UHFError, match="no uhf block of a teacher's or keeper's training"):
        TrainingBlock.parse(block, where="plans.json")


def test_a_keeper_without_teacher_is_told_apart_from_one_that_has_learnt_from_one() -> None:
    assert TrainingBlock.parse(written("keeper"), where="").teacher_of("plans.json").trainer == "UHFTeacherTrainer"
    block = TrainingBlock.parse(written("siqt"), where="plans.json")
    with pytest.raises(UHFError, match=r"^plans.json: .* no teacher"):
        block.teacher_of("plans.json")


def test_a_part_that_was_left_out_is_none() -> None:
    networks = NetworksEntry(architecture={}, parts={"discriminator": None})
    assert networks.part("discriminator") is None
    assert networks.as_json() == {"architecture": {}, "discriminator": None}


@pytest.mark.parametrize("part", ["judges", "source_intensity"])
def test_a_block_that_lost_one_part_of_a_translation_is_still_one(part: str) -> None:
    block = TrainingBlock.parse(written("keeper", **{part: {"mean": 1.0}}), where="plans.json")
    assert block.translates
    assert not TrainingBlock.parse(written("keeper"), where="plans.json").translates
