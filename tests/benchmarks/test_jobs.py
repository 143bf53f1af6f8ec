"""What the jobs on IXI scans share."""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console
from typer.testing import CliRunner

from helpers.support import REPOSITORY
from nnunet_uhf.errors import UHFError
from nnunet_uhf.stages import Stage

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("jobs")


@pytest.mark.parametrize("name", ["main_job", "siqt", "simulated_keeper"])
def test_every_job_says_how_it_is_called(name: str, jobs: ModuleType) -> None:
    text = CliRunner().invoke(importlib.import_module(name).app, ["--help"]).output
    assert all(option in text for option in ("--data", "--out", "-device"))
    assert f"Example: python benchmarks/{name}.py --data" in text


def test_no_scan_is_in_two_groups(jobs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in "cab":
        (tmp_path / "images" / f"{name}.nii.gz").touch()
    assert jobs.Places(tmp_path, tmp_path).groups(1, 0, 5) == [["a"], [], ["b", "c"]]


def test_a_job_goes_on_where_it_stopped_and_refuses_another_ones_folder(jobs: ModuleType, tmp_path: Path) -> None:
    places, done, console = jobs.Places(tmp_path, tmp_path / "out"), [], Console(file=io.StringIO())

    def run(*names: str, size: tuple[int, ...] = (1, 2)) -> None:
        stages = [Stage(name, name, function=lambda name=name: done.append(name)) for name in names]
        measured = {"dice": 0.5}
        jobs.run_job(stages, places, settings={"size": size}, environment={}, console=console, results=lambda: measured)

    run("first")
    run("first", "second")
    assert done == ["first", "second"]
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["dice"] == 0.5
    assert list(written["seconds"]) == done
    with pytest.raises(UHFError, match="other settings"):
        run("first", size=(3,))


def test_only_a_training_that_was_stopped_goes_on(jobs: ModuleType, tmp_path: Path) -> None:
    fold = jobs.Places(tmp_path, tmp_path).model("Dataset001_A", "T", "P", "2d").fold(0)
    assert jobs.going_on(fold) == ()
    fold.path.mkdir(parents=True)
    (fold.path / "checkpoint_latest.pth").touch()
    assert jobs.going_on(fold) == ("--c",)
