"""Run commands and functions one after the other: progress, log files, and going on where a run stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.output import is_used, written_whole

STATE_FORMAT = 1
# nnU-Net's trainers print "<date>: Epoch 3" when an epoch starts.
EPOCH_LINE = re.compile(r"(?:^|: )Epoch (\d+)\s*$")


@dataclass(frozen=True)
class Stage:
    """One step of the chain: a command of nnU-Net or nnunet-uhf, or a Python function."""

    key: str
    """Names the log file and the entry in the state."""
    title: str
    command: tuple[str, ...] = ()
    function: Callable[[], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    epochs: int = 0
    """Epochs the command trains for; 0 for anything that does not train."""


@dataclass
class State:
    """What the file of a run's state holds: its settings, and the finished stages with their seconds."""

    path: Path
    settings: dict[str, Any]
    finished: dict[str, float] = field(default_factory=dict)

    def save(self) -> None:
        """Write the file in one step."""
        content = {_mark(self.path): STATE_FORMAT, "settings": self.settings, "finished": self.finished}
        with written_whole(self.path) as temporary:
            temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _mark(path: Path) -> str:
    """The key by which a state file is known, with the number of its format."""
    return f"nnunet_uhf_{path.stem}"


def open_folder(out: Path, settings: dict[str, Any], *, name: str = "stages") -> State:
    """Create the folder of a run, or take up the one that is there.

    Args:
        out: the folder.
        settings: what the run computes, as JSON has it.
        name: of the file in it that keeps the state, without ending.

    Raises:
        UHFError: `out` holds anything but a run of the same settings: nothing of the user's is overwritten.
    """
    path = out / f"{name}.json"
    if not path.is_file():
        if out.exists() and (not out.is_dir() or is_used(out)):
            raise UHFError(f"{out} is not empty and holds no earlier run ({path.name}): choose another output folder")
        out.mkdir(parents=True, exist_ok=True)
        state = State(path, settings)
        state.save()
        return state
    try:
        content = json.loads(path.read_text())
        known = content[_mark(path)] == STATE_FORMAT
        stored, finished = dict(content["settings"]), dict(content["finished"])
    except (ValueError, KeyError, TypeError) as error:
        raise UHFError(
            f"{path} cannot be read as the state of a run: delete {out} or choose another output folder"
        ) from error
    wanted = json.loads(json.dumps(settings))
    if not known or stored != wanted:
        told = "; ".join(
            f"{name} was {stored.get(name)}, is {wanted.get(name)}"
            for name in {**stored, **wanted}
            if stored.get(name) != wanted.get(name)
        )
        raise UHFError(
            f"{path} belongs to a run with other settings ({told or 'of another version'}): delete {out} or choose "
            "another output folder"
        )
    return State(path, settings, finished)


def find_command(name: str) -> str:
    """Full path of a console command installed beside the running Python. Raises UHFError when it is missing."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), sysconfig.get_path("scripts")])
    found = shutil.which(name, path=folders)
    if found is None:
        raise UHFError(f"the command {name} is not installed beside {sys.executable}: run 'pip install nnunetv2' there")
    return found


def run_command(
    command: Sequence[str], *, environment: Mapping[str, str], log: TextIO, on_epoch: Callable[[int], None]
) -> int:
    """Run a console command; its output goes to `log`, the epochs it reports to `on_epoch`. Returns the exit status."""
    log.write("$ " + " ".join(command) + "\n")
    with subprocess.Popen(
        [find_command(command[0]), *command[1:]],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                log.write(line)
                log.flush()
                match = EPOCH_LINE.search(line)
                if match:
                    on_epoch(int(match.group(1)))
            return process.wait()
        except BaseException:  # an interrupted run leaves no training behind
            process.terminate()
            raise


def run_stages(
    stages: Sequence[Stage], *, state: State, environment: Mapping[str, str], logs: Path, console: Console
) -> None:
    """Run every stage that `state` does not call finished, in order, with a progress bar on `console`.

    Raises UHFError, naming the log file, when a command fails; the stages before it stay finished.
    """
    logs.mkdir(parents=True, exist_ok=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        whole = progress.add_task("all stages", total=len(stages), completed=0)
        for number, stage in enumerate(stages, start=1):
            label = f"[{number:2d}/{len(stages)}] {stage.title}"
            if stage.key in state.finished:
                console.print(f"{label}: done before", highlight=False, markup=False)
            else:
                current = progress.add_task(stage.title, total=stage.epochs or None)
                seconds = _run_stage(stage, environment, logs, _shown_by(progress, current))
                progress.remove_task(current)
                state.finished[stage.key] = round(seconds, 1)
                state.save()
                console.print(f"{label}: {seconds:.0f} s", highlight=False, markup=False)
            progress.advance(whole)


def _shown_by(progress: Progress, task: TaskID) -> Callable[[int], None]:
    return lambda epoch: progress.update(task, completed=epoch)


def _run_stage(stage: Stage, environment: Mapping[str, str], logs: Path, on_epoch: Callable[[int], None]) -> float:
    start = time.monotonic()
    if stage.function is not None:
        stage.function()
    if stage.command:
        path = logs / f"{stage.key}.log"
        merged = {**environment, **stage.environment}
        with path.open("w", encoding="utf-8") as log:
            status = run_command(stage.command, environment=merged, log=log, on_epoch=on_epoch)
        if status != 0:
            raise UHFError(
                f"'{stage.title}' ended with exit status {status}: see {path}; the same command tries again from here"
            )
    return time.monotonic() - start
