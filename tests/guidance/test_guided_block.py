"""The `uhf` block of plans that came from elsewhere is checked before a network is built from it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import check_guided_block
from nnunet_uhf.networks import KnowledgeKeeper


def block() -> dict[str, Any]:
    return {
        "format": 1,
        "role": "guided",
        "preset": "reference",
        "keeper": {
            "architecture": KnowledgeKeeper(dim=2, base_features=4).config(),
            "sha256": "0" * 64,
            "provenance": {},
        },
        "guide_channel": 0,
        "spacing_ratio": [1.0, 1.0],
        "fusion": {"init": "identity", "gate": "sigmoid"},
    }


def test_a_block_as_plans_hold_it_passes() -> None:
    check_guided_block(block(), where="plans.json")


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
        check_guided_block(damaged, where="model/plans.json")

    assert "model/plans.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def enhanced() -> dict[str, Any]:
    """The block of the enhanced input, whose network has a decoder."""
    made = {**block(), "control": "enhanced_input"}
    decoder = {"architecture": {"dim": 2, "base_features": 4}, "sha256": "0" * 64}
    return {**made, "keeper": {**made["keeper"], "decoder": decoder}}


def test_the_blocks_of_controls_pass() -> None:
    check_guided_block(enhanced(), where="plans.json")
    check_guided_block({**block(), "control": "unfrozen"}, where="plans.json")
    for control in ("random", "zero", "trainable"):
        drawn = {**block(), "control": control}
        drawn["keeper"]["seed"] = 3
        check_guided_block(drawn, where="plans.json")


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
        check_guided_block(damaged, where="model/plans.json")
