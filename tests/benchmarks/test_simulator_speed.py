"""The benchmark of the simulation, on patches that take a moment."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from typer.testing import CliRunner

from helpers.support import REPOSITORY


@pytest.fixture
def simulator_speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("simulator_speed")


def test_the_table_has_a_row_for_each_patch(simulator_speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    result = CliRunner().invoke(simulator_speed.app, ["--patch", "16x16x16", "--patch", "32x32", "--repeats", "2"])
    assert result.exit_code == 0, result.output
    assert "16x16x16" in result.output
    assert "32x32" in result.output


def test_an_unknown_clock_is_refused(simulator_speed: ModuleType) -> None:
    assert CliRunner().invoke(simulator_speed.app, ["--patch", "32x32", "--clock", "sun"]).exit_code == 2
