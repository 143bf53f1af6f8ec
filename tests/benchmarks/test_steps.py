"""The table of the light preset's steps, on patches that take moments."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch
from typer.testing import CliRunner

from helpers.support import REPOSITORY
from nnunet_uhf.networks.presets import PRESETS


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("steps")


def test_one_command_prints_the_steps_from_the_reference_to_the_preset(steps: ModuleType) -> None:
    options = ["--patch", "32x32", "--stages", "3", "--features", "8", "--taken", "--repeats", "1"]
    result = CliRunner().invoke(steps.app, options)
    assert result.exit_code == 0, result.output
    rows = [[word.strip() for word in line.strip("|").split("|")] for line in result.output.splitlines() if "|" in line]
    assert [row[0] for row in rows[2:]] == [step.name for step in steps.TAKEN]
    *savings, light = [float(row[3]) for row in rows[2:]]
    assert savings == sorted(savings, reverse=True)
    assert 1 < savings[-1] < light < savings[1]  # the last step gives a little back, for accuracy


def test_the_steps_lead_from_one_preset_to_the_other(steps: ModuleType) -> None:
    first, last = steps.TAKEN[0], steps.TAKEN[-1]
    assert first.fusion == PRESETS["reference"].fusion
    assert (last.fusion, last.keeper) == (PRESETS["light"].fusion, PRESETS["light"].keeper)


def test_every_row_is_held_against_one_that_is_there(steps: ModuleType) -> None:
    names = {step.name for step in steps.TAKEN}
    assert all(step.against in names for step in (*steps.TAKEN[1:], *steps.TRIED))
    assert [step.name for step in steps.OF_PRESETS if not step.against] == ["reference"]


def test_what_was_tried_runs_and_gives_the_networks_outputs(steps: ModuleType) -> None:
    costs = importlib.import_module("costs")
    setting = costs.Setting((32, 32), 1, 1, None)
    plain = steps.default_network(setting, stages=3, features=8)
    image = torch.randn(1, 1, 32, 32)
    wanted = [output.shape for output in plain(image)]
    for step in (*steps.TRIED, *steps.OF_PRESETS):
        network = steps.build(step, plain, setting)
        outputs = network(image)
        assert [output.shape for output in outputs] == wanted
        costs.backward(outputs)
        assert not any(p.requires_grad for p in network.keeper.parameters())


def test_counting_without_content_gives_what_a_real_pass_takes(steps: ModuleType) -> None:
    setting = steps.Setting((32, 32), 2, 1, None)
    plain = steps.default_network(setting, stages=3, features=8)
    image = torch.randn(2, 1, 32, 32)
    real = steps.Bench({"": steps.Call(plain, lambda: plain(image))}, device=torch.device("cpu")).count("")
    assert steps.counted(plain, setting) == real
