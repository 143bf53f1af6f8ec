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
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

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
    after: tuple[str, ...] | None = None
    """Keys of the stages that this one needs; None for all before it. Matters where stages run side by side."""


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
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: TextIO,
    on_epoch: Callable[[int], None],
    started: Callable[[subprocess.Popen[str]], None] = lambda _: None,
) -> int:
    """Run a console command; its output goes to `log`, the epochs it reports to `on_epoch`. Returns the exit status.

    `started` is told the process, for whoever wants to end it.
    """
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
        started(process)
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
    stages: Sequence[Stage],
    *,
    state: State,
    environment: Mapping[str, str],
    logs: Path,
    console: Console,
    side_by_side: int = 1,
) -> None:
    """Run every stage that `state` does not call finished, in order, with progress and remaining time on `console`.

    Args:
        stages: what is to be done.
        state: what is done; it is written after every stage.
        environment: of the commands; a stage's own comes on top.
        logs: folder of the commands' output.
        console: where it is no terminal, it names each stage as it starts.
        side_by_side: how many stages may run at a time, each as soon as those that it needs are done.

    Raises:
        UHFError: a command fails; the message names its log file. The stages finished by then stay finished.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with Progress(*COLUMNS, console=console, transient=True) as progress:
        _Run(stages, state, environment, logs, progress).all(side_by_side)


COLUMNS = (
    SpinnerColumn(),
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


class _Run:
    """One run of some stages: what is done, what runs, what may start."""

    def __init__(
        self, stages: Sequence[Stage], state: State, environment: Mapping[str, str], logs: Path, progress: Progress
    ) -> None:
        self.stages, self.state, self.environment, self.logs = stages, state, environment, logs
        self.progress, self.console = progress, progress.console
        self.processes: list[subprocess.Popen[str]] = []

    def all(self, side_by_side: int) -> None:
        """Run what is not finished; the first failure waits for what runs and is then raised."""
        whole = self.progress.add_task("all stages", total=len(self.stages))
        for stage in self.stages:
            if stage.key in self.state.finished:
                self.say(stage, "done before")
                self.progress.advance(whole)
        waiting = [stage for stage in self.stages if stage.key not in self.state.finished]
        running: dict[Future[float], Stage] = {}
        failed: BaseException | None = None
        with ThreadPoolExecutor(side_by_side) as pool:
            try:
                while running or (waiting and failed is None):
                    if failed is None:
                        for stage in [stage for stage in waiting if self.may_start(stage)][
                            : side_by_side - len(running)
                        ]:
                            waiting.remove(stage)
                            running[pool.submit(self.one, stage)] = stage
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        stage = running.pop(future)
                        failed = failed or future.exception()
                        if future.exception() is None:
                            self.state.finished[stage.key] = round(future.result(), 1)
                            self.state.save()
                            self.say(stage, f"{future.result():.0f} s")
                            self.progress.advance(whole)
            except BaseException:  # an interrupted run leaves no training behind
                for process in self.processes:
                    process.terminate()
                raise
        if failed is not None:
            raise failed

    def may_start(self, stage: Stage) -> bool:
        """Whether all stages that a stage needs are finished."""
        before = self.stages[: self.stages.index(stage)]
        needed = [each.key for each in before] if stage.after is None else stage.after
        return all(key in self.state.finished for key in needed)

    def one(self, stage: Stage) -> float:
        """Run a stage; returns its seconds."""
        if not self.console.is_terminal:
            self.say(stage, "started")
        current = self.progress.add_task(stage.title, total=stage.epochs or None)
        try:
            return self.timed(stage, lambda epoch: self.progress.update(current, completed=epoch))
        finally:
            self.progress.remove_task(current)

    def timed(self, stage: Stage, on_epoch: Callable[[int], None]) -> float:
        """Run a stage's function and command; returns their seconds."""
        start = time.monotonic()
        if stage.function is not None:
            stage.function()
        if stage.command:
            path = self.logs / f"{stage.key}.log"
            merged = {**self.environment, **stage.environment}
            with path.open("w", encoding="utf-8") as log:
                status = run_command(
                    stage.command, environment=merged, log=log, on_epoch=on_epoch, started=self.processes.append
                )
            if status != 0:
                raise UHFError(
                    f"'{stage.title}' ended with exit status {status}: see {path}; the same command tries again from "
                    "here"
                )
        return time.monotonic() - start

    def say(self, stage: Stage, what: str) -> None:
        """A line about a stage."""
        number = self.stages.index(stage) + 1
        label = f"[{number:2d}/{len(self.stages)}] {stage.title}: {what}"
        self.console.print(label, highlight=False, markup=False)
