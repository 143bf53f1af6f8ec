"""The `uhf` block of plans that came from elsewhere is checked before a network is built from it."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from helpers.made_plans import make_plans
from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.networks import KnowledgeKeeper
from nnunet_uhf.nnunet.plans_block import put_block


def block(dim: int = 2) -> dict[str, Any]:
    return {
        "format": 1,
        "role": "guided",
        "preset": "reference",
        "keeper": {
            "architecture": KnowledgeKeeper(dim=dim, base_features=4).config(),
            "sha256": "0" * 64,
            "provenance": {},
        },
        "guide_channel": 0,
        "spacing_ratio": [1.0] * dim,
        "fusion": {"init": "identity", "gate": "sigmoid"},
    }


FIXTURES = Path(__file__).parents[1] / "fixtures" / "v0_1_0"


def test_a_block_as_plans_hold_it_comes_back_as_it_was() -> None:
    changes: list[dict[str, Any]] = [{}, {"source_plans": "nnUNetPlans", "planned": {"batch_size": 3}}, {"later": [1]}]
    for change in changes:
        made = block() | change
        assert GuidedBlock.parse(made, where="plans.json").as_json() == made


@pytest.mark.parametrize("path", sorted([*FIXTURES.glob("plans/*.json"), *FIXTURES.glob("results/*/*/plans.json")]))
def test_the_blocks_of_version_0_1_0_come_back_as_they_were(path: Path) -> None:
    plans = json.loads(path.read_text())
    for entry in plans["configurations"].values():
        found = entry.get("uhf", {})
        if found.get("role") == "guided":
            assert GuidedBlock.parse(found, where=path).as_json() == found


def test_plans_without_a_block_have_none() -> None:
    plans = make_plans()
    assert GuidedBlock.of(plans, "3d_cascade_fullres") is None
    put_block(plans, "3d_fullres", block(3))
    assert GuidedBlock.of(plans, "3d_cascade_fullres") == GuidedBlock.parse(block(3), where="")
    put_block(plans, "2d", {"role": "guided"})
    with pytest.raises(UHFError, match=r"^plans nnUNetPlans, 2d: uhf block of format None"):
        GuidedBlock.of(plans, "2d")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("role",), "keeper", "role"),
        (("format",), 2, "format"),
        (("keeper",), None, "no keeper"),
        (("keeper", "architecture", "dim"), 4, "dim"),
        (("keeper", "architecture", "base_features"), 4096, "base_features"),
        (("keeper", "architecture", "kernel_size"), "7", "kernel_size"),
        (("keeper", "sha256"), "short", "sha256"),
        (("preset",), "magic", "preset"),
        (("preset",), [], "preset"),
        (("fusion",), {"init": "identity", "gate": "sigmoid", "kind": "light"}, "fusion"),
        (("guide_channel",), -1, "guide_channel"),
        (("source_plans",), 3, "source_plans"),
        (("planned",), [], "planned"),
        (("guide_channel",), True, "guide_channel"),
        (("spacing_ratio",), [1.0], "spacing_ratio"),
        (("spacing_ratio",), [1.0, 1000.0], "spacing_ratio"),
        (("fusion",), {"init": "identity", "gate": "exec"}, "fusion"),
    ],
)
def test_a_damaged_entry_is_named_with_its_file(path: tuple[str, ...], value: object, told: str) -> None:
    damaged = deepcopy(block())
    place = damaged
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    with pytest.raises(UHFError, match=told) as caught:
        GuidedBlock.parse(damaged, where="model/plans.json")

    assert "model/plans.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def enhanced() -> dict[str, Any]:
    """The block of the enhanced input, whose network has a decoder."""
    made = {**block(), "control": "enhanced_input"}
    decoder = {"architecture": {"dim": 2, "base_features": 4}, "sha256": "0" * 64}
    return {**made, "keeper": {**made["keeper"], "decoder": decoder}}


def test_the_blocks_of_controls_come_back_as_they_were() -> None:
    made = [enhanced(), {**block(), "control": "unfrozen"}]
    for control in ("random", "zero", "trainable"):
        made.append({**block(), "control": control})
        made[-1]["keeper"]["seed"] = 3
    for each in made:
        assert GuidedBlock.parse(each, where="plans.json").as_json() == each


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("control",), "placebo", "control"),
        (("control",), ["random"], "control"),
        (("control",), "random", "seed"),
        (("keeper", "decoder"), None, "decoder"),
        (("keeper", "decoder", "sha256"), 1, "decoder"),
        (("keeper", "decoder", "architecture", "base_features"), 4096, "base_features"),
    ],
)
def test_a_damaged_entry_of_a_control_is_named(path: tuple[str, ...], value: object, told: str) -> None:
    damaged = enhanced()
    place = damaged
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UHFError, match=told):
        GuidedBlock.parse(damaged, where="model/plans.json")


@pytest.mark.parametrize("found", [None, [], "guided", {"role": ["guided"]}])
def test_what_is_no_guided_block_is_refused_in_one_line(found: object) -> None:
    with pytest.raises(UHFError, match=r"^model/plans\.json: a uhf block of role"):
        GuidedBlock.parse(found, where="model/plans.json")
