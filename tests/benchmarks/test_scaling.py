"""The scaling of costs, and the prediction of whole volumes."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from helpers.support import REPOSITORY


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("scaling")


def test_a_case_is_counted_for_plain_and_both_presets(scaling: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "CASES", {"one": [replace(scaling.FLAT, patch=(32, 32), stages=3, batch=1)]})
    result = CliRunner().invoke(scaling.app, [])
    assert result.exit_code == 0, result.output
    head, _, row = [
        [word.strip() for word in line.strip("|").split("|")] for line in result.output.splitlines() if line
    ]
    values = dict(zip(head, row, strict=True))
    assert values["patch"] == "32x32"
    assert 1 < float(values["training FLOP, efficient"]) < float(values["training FLOP, reference"])


@pytest.mark.parametrize("size", [(20, 17), (16, 16)])
def test_a_volume_predicted_in_pieces_is_weighed_everywhere(scaling: ModuleType, size: tuple[int, int]) -> None:
    volume = torch.randn(1, *size)
    total = scaling.predicted_volume(nn.Identity(), volume, (8, 16))
    weight = scaling.predicted_volume(nn.Identity(), torch.ones_like(volume), (8, 16))
    torch.testing.assert_close(total / weight, volume)


def test_volumes_are_timed_for_plain_and_both_presets(scaling: ModuleType) -> None:
    options = ["--volume", "32x48", "--patch", "32x32", "--stages", "3", "--repeats", "1"]
    result = CliRunner().invoke(scaling.app, options)
    assert result.exit_code == 0, result.output
    assert all(f"| {name}" in result.output for name in ("plain", "reference", "efficient"))
