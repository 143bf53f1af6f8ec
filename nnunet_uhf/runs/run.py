"""`nnunet-uhf run`: a run from wherever it stopped, or its commands for a queue."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.keeper_files import KeeperFiles
from nnunet_uhf.installation.trainer_path import add_trainers
from nnunet_uhf.keepers.file import find_keepers
from nnunet_uhf.runs.chain import MEANING, PARTS, Part, steps_of
from nnunet_uhf.runs.present import plans_file
from nnunet_uhf.runs.settings import DEFAULT_PLANS, RunFolders, RunSettings
from nnunet_uhf.stages import open_folder, run_stages

STATE_NAME = "run"


def carry_out(
    settings: RunSettings,
    out: Path,
    *,
    device: str,
    gpus: int = 1,
    parts: Sequence[Part] = PARTS,
    console: Console | None = None,
) -> list[Path]:
    """Do what of a run is not done yet; returns the pages that compare plain and guided.

    What is there already is not done again, whoever made it: plans, preprocessed cases, keeper files of the run,
    finished folds. A training that was begun goes on.

    Args:
        settings: of the run; an output folder belongs to one run.
        out: its folder.
        device: nnU-Net's.
        gpus: for each training.
        parts: those that are wanted.
        console: for progress.

    Raises:
        UHFError: a folder of another run, no keeper for a configuration, or a command that failed.
    """
    console = console or Console()
    require_keepers(settings)
    folders = RunFolders(out)
    state = open_folder(out, settings.as_json(), name=STATE_NAME)
    folders.keepers.mkdir(exist_ok=True)
    environment = dict(os.environ)
    add_trainers(environment)
    wanted = [step for step in steps_of(settings, folders, device=device, gpus=gpus) if step.part in parts]
    for step in wanted:
        if not step.done():
            state.finished.pop(step.stage.key, None)  # whoever wants it made anew has moved it away
        elif step.certain:
            state.finished.setdefault(step.stage.key, 0.0)
    state.save()
    run_stages(
        [step.stage for step in wanted], state=state, environment=environment, logs=folders.logs, console=console
    )
    return sorted(out.glob("comparison_*/index.html"))


def commands(
    settings: RunSettings, out: Path, *, device: str, gpus: int = 1, parts: Sequence[Part] = PARTS
) -> list[str]:
    """The commands of what is not done yet, one a line, under a comment for each part; nothing is written.

    Raises:
        UHFError: no keeper for a configuration.
    """
    require_keepers(settings)
    lines = []
    left = [step for step in steps_of(settings, RunFolders(out), device=device, gpus=gpus) if not step.done()]
    for part in parts:
        here = [step.line() for step in left if step.part == part]
        lines += [f"# {part}: {MEANING[part] if here else 'nothing is left'}", *here]
    return lines


def require_keepers(settings: RunSettings) -> None:
    """UHFError before anything is computed where a keeper or plans are missing that no stage makes."""
    if settings.plans != DEFAULT_PLANS and not plans_file(settings.dataset, settings.plans).is_file():
        raise UHFError(f"{plans_file(settings.dataset, settings.plans)}: no such plans; make them, or leave -p away")
    if settings.pairs is not None:
        return
    files = KeeperFiles(find_keepers(settings.keeper))
    for configuration in settings.configurations:
        dim = 2 if configuration.startswith("2d") else 3
        if not any(file.header.dim == dim for file in files):
            there = ", ".join(f"{file.path.name} is {file.header.dim}D" for file in files)
            raise UHFError(
                f"-c {configuration} needs a keeper of {dim} dimensions, and {settings.keeper} holds none ({there}): "
                "name one (--keeper), train one (--pairs), or leave the configuration away"
            )
