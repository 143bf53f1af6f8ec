"""The check on a card: what it writes down, and that it goes on where it was stopped; its steps need minutes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.support import REPOSITORY
from nnunet_uhf.demo.settings import DemoSettings


@pytest.fixture
def cuda_check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("cuda_check")


def started(cuda_check: ModuleType, out: Path) -> Any:
    check = cuda_check.Check(out=out, device="cpu", iterations=1, settings=DemoSettings())
    check.take_up()
    return check


def test_a_step_that_fails_stops_no_other_and_is_tried_again_while_the_others_are_not(
    cuda_check: ModuleType, tmp_path: Path
) -> None:
    seen: list[str] = []

    def well(name: str) -> str:
        seen.append(name)
        return "a note"

    def broken() -> None:
        raise RuntimeError("two\nlines")

    first = started(cuda_check, tmp_path)
    first.step("one", lambda: well("one"))
    first.step("two", broken)
    first.step("three", lambda: well("three"))
    assert [row[:2] for row in first.rows] == [("one", "ok"), ("two", "FAILED"), ("three", "ok")]
    assert first.rows[1][3] == "two lines"
    again = started(cuda_check, tmp_path)
    for name in ("one", "two", "three"):
        again.step(name, lambda name=name: well(name))
    assert seen == ["one", "three", "two"]
    assert [row[1] for row in again.rows] == ["ok"] * 3
    written = json.loads((tmp_path / "steps.json").read_text())
    assert sorted(written) == sorted(list(row) for row in again.rows)
    table = cuda_check.table(again.rows)
    assert table.count("a note") == 3


def test_a_folder_of_something_else_is_left_alone(cuda_check: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = CliRunner().invoke(cuda_check.app, ["--out", str(tmp_path), "--dry-run"])
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
