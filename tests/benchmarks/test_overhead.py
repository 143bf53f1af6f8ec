"""The overhead benchmark, on a patch that takes a second."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from helpers.support import REPOSITORY
from helpers.workspace import Workspace


@pytest.fixture
def overhead(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("overhead")


def run(overhead: ModuleType, report: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(overhead.app, [*options, "--repeats", "2", "--json", str(report)])
    assert result.exit_code == 0, result.output
    assert "guided / plain" in result.output
    return json.loads(report.read_text())


def test_the_guided_network_costs_its_parts(overhead: ModuleType, tmp_path: Path) -> None:
    options = ["--patch", "32x32", "--stages", "3", "--features", "8"]
    costs = run(overhead, tmp_path / "report.json", *options)["costs"]
    plain, guided, keeper, fusions = (costs[part] for part in ("plain", "guided", "keeper", "fusions"))
    for key in ("parameters", "forward_flop"):
        assert guided[key] == plain[key] + keeper[key] + fusions[key]
    assert keeper["saved_bytes"] == 0  # frozen
    assert keeper["training_flop"] == keeper["forward_flop"]
    assert plain["training_flop"] > 2 * plain["forward_flop"]
    assert all(len(cost["forward_s"]) == len(cost["training_s"]) == 2 for cost in costs.values())


def test_the_network_can_come_from_plans(overhead: ModuleType, tmp_path: Path, nnunet: Workspace) -> None:
    plans = nnunet.dataset("single").plans_file
    report = run(overhead, tmp_path / "report.json", "--plans", str(plans), "-c", "2d")
    assert report["patch"] == [32, 32]
    assert report["batch"] == 2


def test_saved_activations_are_counted_once_and_without_parameters(overhead: ModuleType) -> None:
    costs = importlib.import_module("costs")
    image = torch.randn(1, 2, 8, 8, requires_grad=True)
    layer = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    shared = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(3, 3, 1, bias=False))
    # the first convolution keeps the image (512 bytes); ReLU and the second keep one and the same map (768 bytes)
    with costs.SavedActivations(shared) as saved:
        shared(image)
    assert saved.bytes == 512 + 768


@pytest.mark.parametrize("options", [["--preset", "magic"], ["--clock", "processor"]])
def test_options_without_a_meaning_are_refused(overhead: ModuleType, options: list[str]) -> None:
    assert CliRunner().invoke(overhead.app, options).exit_code == 2
