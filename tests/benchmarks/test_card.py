"""What guidance costs by nnU-Net's own training step: the script, tried on the CPU on a patch that takes a second."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from helpers.support import REPOSITORY


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("card")


@pytest.mark.parametrize("patch", ["32x32", "16x16x16"])
def test_every_preset_is_held_against_plain_and_its_parts_are_timed(
    card: ModuleType, patch: str, tmp_path: Path
) -> None:
    report = tmp_path / "card.json"
    words = ["--patch", patch, "--stages", "3", "--features", "4", "--repeats", "2", "-device", "cpu"]
    result = CliRunner().invoke(card.app, [*words, "--json", str(report)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    costs = json.loads(report.read_text())["costs"]
    assert list(costs) == ["plain", "reference", "light", "efficient"]
    assert all(len(cost["step_s"]) == len(cost["forward_s"]) == 2 for cost in costs.values())
    assert costs["plain"]["parts_s"] == {}
    assert list(costs["efficient"]["parts_s"]) == ["keeper", "fusion 0", "fusion 1", "fusion 2"]
    rows = [line for line in result.output.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == list(costs)
    assert rows[2].count("1.00 (1.00-1.00)") == 2


def test_a_trainer_of_the_script_is_the_one_that_users_run(card: ModuleType, tmp_path: Path) -> None:
    trainers = []
    plans = card.plans_of([16, 16], 2, 3, 4)
    for preset in (None, "efficient"):
        cases = tmp_path / "preprocessed" / plans["dataset_name"] / "card"
        cases.mkdir(parents=True, exist_ok=True)
        (cases / "none.b2nd").touch()
        with pytest.MonkeyPatch.context() as patch:
            for kind in ("raw", "preprocessed", "results"):
                patch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
            trainers.append(card.Trained(preset, plans, tmp_path, card.torch.device("cpu")).trainer)
    plain, guided = trainers
    assert type(plain).__name__ == "nnUNetTrainer"
    assert guided.guidance.preset == "efficient"
    assert guided.fusion_rate == pytest.approx(3e-3)
    before = {name: value.clone() for name, value in guided.network.named_parameters()}
    batch = {
        "data": card.torch.randn(2, 1, 16, 16),
        "target": [card.torch.randint(4, (2, 1, size, size)).float() for size in (16, 8)],
    }
    guided.train_step(batch)
    moved = {name for name, value in guided.network.named_parameters() if not value.equal(before[name])}
    assert any(name.startswith("fusions.") for name in moved)
    assert not any(name.startswith("keeper.") for name in moved)
