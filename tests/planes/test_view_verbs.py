"""The command line of the three planes: plan --plane and aggregate-views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnunet_uhf.cli import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    assert isinstance(left.value.code, int)
    return left.value.code


class Recorder:
    """Stands in for a verb's function and keeps what it was called with."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.arguments, self.options = arguments, options
        return self.result


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def test_plan_for_a_plane_needs_no_keeper_and_names_the_next_commands(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(folders / "P_axial.json")
    monkeypatch.setattr("nnunet_uhf.planes.plans.write_plane_plans", recorder)
    assert run("plan", "-d", "7", "--plane", "axial", "-p", "P") == 0
    assert recorder.arguments == ("7", "axial")
    assert recorder.options == {
        "keepers": (),
        "source_plans": "P",
        "output_name": None,
        "preset": None,
        "fusion_rate": None,
        "reserve": True,
    }
    text = capsys.readouterr().out
    assert "nnUNetv2_preprocess -d 7 -plans_name P_axial -c 2d\n" in text
    assert "nnUNetv2_train 7 2d 0 -p P_axial\n" in text


def test_plan_for_a_plane_with_keepers_trains_guided(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(folders / "New.json")
    (folders / "New.json").write_text('{"configurations": {}}')
    monkeypatch.setattr("nnunet_uhf.planes.plans.write_plane_plans", recorder)
    assert run("plan", "-d", "7", "-c", "2d", "--plane", "coronal", "--keeper", "a", "b", "-o", "New") == 0
    assert recorder.options == {
        "keepers": [Path("a"), Path("b")],
        "source_plans": "nnUNetPlans",
        "output_name": "New",
        "preset": None,
        "fusion_rate": None,
        "reserve": True,
    }
    assert "nnUNetv2_train 7 2d 0 -tr UHFTrainer -p New\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "2d"),
        ("--keeper", "k"),
        ("--plane", "oblique"),
        ("--plane", "axial", "-c", "3d_fullres"),
        ("--plane", "axial", "-c", "2d", "3d_fullres"),
    ],
)
def test_what_plan_cannot_do_is_one_line(
    arguments: tuple[str, ...], folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plan", "-d", "7", *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_aggregate_views_hands_over_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder([])
    monkeypatch.setattr("nnunet_uhf.planes.aggregation.aggregate_views", recorder)
    options = ("--weights", "2", "1", "1", "--sagittal-merged", "m.json", "--save_npz", "-np", "3")
    assert run("aggregate-views", "-i", "a", "c", "s", "-o", "out", *options) == 0
    assert recorder.arguments == ([Path("a"), Path("c"), Path("s")], Path("out"))
    recorder.options.pop("console")
    assert recorder.options == {
        "weights": [2.0, 1.0, 1.0],
        "sagittal_merged": Path("m.json"),
        "save_probabilities": True,
        "num_processes": 3,
    }
    assert run("aggregate-views", "-i", "a", "c", "s", "-o", "out") == 0
    assert recorder.options["weights"] is None
    assert recorder.options["num_processes"] >= 1
