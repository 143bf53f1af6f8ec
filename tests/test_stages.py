from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from threading import Barrier

import pytest
from rich.console import Console

from nnunet_uhf.errors import UHFError
from nnunet_uhf.stages import Stage, State, find_command, open_folder, run_stages

SETTINGS = {"subjects": 7, "shape": (8, 8, 8)}
PYTHON = Path(sys.executable).name


def run(stages: list[Stage], state: State, out: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    run_stages(stages, state=state, environment=os.environ, logs=out / "logs", console=console)
    return console.file.getvalue()


def script(key: str, text: str, **options: object) -> Stage:
    return Stage(key, f"stage {key}", (PYTHON, "-c", text), **options)


def test_finished_stages_are_not_run_again(tmp_path: Path) -> None:
    done: list[str] = []
    stages = [Stage(name, name, function=lambda name=name: done.append(name)) for name in ("first", "second")]
    run(stages[:1], open_folder(tmp_path, SETTINGS), tmp_path)
    text = run(stages, open_folder(tmp_path, SETTINGS), tmp_path)
    assert done == ["first", "second"]
    assert "first: done before" in text


def test_a_failed_stage_names_its_log_in_one_line_and_is_run_again(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    text = f"import pathlib, sys; print('reason'); sys.exit(0 if pathlib.Path({str(flag)!r}).exists() else 3)"
    state = open_folder(tmp_path / "out", SETTINGS)
    with pytest.raises(UHFError, match="exit status 3") as caught:
        run([script("bad", text)], state, tmp_path / "out")
    log = tmp_path / "out" / "logs" / "bad.log"
    assert str(log) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "reason" in log.read_text()
    flag.touch()
    state = open_folder(tmp_path / "out", SETTINGS)
    assert state.finished == {}
    run([script("bad", text)], state, tmp_path / "out")
    assert "bad" in state.finished


def test_a_stage_gets_its_own_environment_and_reports_its_epochs(tmp_path: Path) -> None:
    text = "import os; print(os.environ['COLOUR']); [print(f'2030-01-01 00:00:00.1: Epoch {n}') for n in range(3)]"
    stage = script("train", text, environment={"COLOUR": "blue"}, epochs=3)
    run([stage], open_folder(tmp_path, SETTINGS), tmp_path)
    log = (tmp_path / "logs" / "train.log").read_text()
    assert "blue" in log
    assert "Epoch 2" in log


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UHFError, match="holds no earlier run"):
        open_folder(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(UHFError, match="holds no earlier run"):
        open_folder(path, SETTINGS)


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    open_folder(tmp_path, SETTINGS)
    with pytest.raises(UHFError, match="other settings"):
        open_folder(tmp_path, {**SETTINGS, "subjects": 8})


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"nnunet_uhf_stages": 1, "settings": 3})])
def test_a_damaged_state_file_is_told_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "stages.json").write_text(content)
    with pytest.raises(UHFError, match=r"stages\.json"):
        open_folder(tmp_path, SETTINGS)


def test_a_missing_command_is_told_in_one_line() -> None:
    with pytest.raises(UHFError, match="nnUNetv2_no_such_thing is not installed"):
        find_command("nnUNetv2_no_such_thing")


def test_stages_that_need_nothing_of_each_other_run_side_by_side(tmp_path: Path) -> None:
    both = Barrier(2, timeout=20)
    done: list[str] = []
    stages = [
        Stage("first", "first", function=lambda: done.append("first")),
        Stage("left", "left", function=lambda: (both.wait(), done.append("left"))[1], after=("first",)),
        Stage("right", "right", function=lambda: (both.wait(), done.append("right"))[1], after=("first",)),
        Stage("last", "last", function=lambda: done.append("last")),
    ]
    state = open_folder(tmp_path, SETTINGS)
    console = Console(file=io.StringIO(), width=200)
    run_stages(stages, state=state, environment={}, logs=tmp_path / "logs", console=console, side_by_side=2)
    assert (done[0], done[-1], sorted(done[1:3])) == ("first", "last", ["left", "right"])
    assert list(json.loads((tmp_path / "stages.json").read_text())["finished"])[-1] == "last"


def test_without_a_terminal_the_running_stage_is_named_before_it_ends(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    seen: list[str] = []
    stage = Stage("slow", "the slow one", function=lambda: seen.append(console.file.getvalue()))
    run_stages([stage], state=open_folder(tmp_path, SETTINGS), environment={}, logs=tmp_path / "logs", console=console)
    assert "the slow one: started" in seen[0]


def test_what_runs_beside_a_failure_is_kept(tmp_path: Path) -> None:
    def fail() -> None:
        raise UHFError("no")

    stages = [Stage("bad", "bad", function=fail, after=()), Stage("good", "good", function=lambda: None, after=())]
    stages.append(Stage("never", "never", function=lambda: None))
    state = open_folder(tmp_path, SETTINGS)
    with pytest.raises(UHFError, match="no"):
        run_stages(
            stages, state=state, environment={}, logs=tmp_path / "logs", console=Console(quiet=True), side_by_side=2
        )
    assert list(state.finished) == ["good"]
