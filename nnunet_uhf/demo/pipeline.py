"""`nnunet-uhf demo`: the whole chain on phantom subjects, on a laptop, without downloads."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from nnunet_uhf.demo.chain import SIDE_BY_SIDE, build_stages, environment
from nnunet_uhf.demo.pictures import picture_subjects
from nnunet_uhf.demo.report import command_lines, render_demo
from nnunet_uhf.demo.scores import dice_table, image_table, read_scores
from nnunet_uhf.demo.settings import DemoSettings, Folders
from nnunet_uhf.devices import device_of_command
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.stages import open_folder, run_stages
from nnunet_uhf.trainers.demo import LENGTHS

STATE_NAME = "demo"
"""The state is kept in demo.json."""


def run_demo(
    *,
    out: Path,
    device: str = "cpu",
    only: str | None = None,
    settings: DemoSettings | None = None,
    console: Console | None = None,
) -> Path:
    """Make phantom subjects, run every stage of the chain on them and report; returns the path of index.html.

    Stages that a former run in `out` has finished are not repeated. `device` is nnU-Net's: cpu, cuda or mps. `only` is
    the key of one stage: that alone is run, again if need be, and nothing is reported.

    Raises:
        UHFError: `out` holds something else, a stage fails (the message names its log), unknown device or stage.
    """
    device = device_of_command(device).type
    settings = settings or DemoSettings()
    console = console or Console()
    folders = Folders(out.expanduser().resolve())
    stages = build_stages(
        settings,
        folders,
        device=device,
        epochs_of=lambda trainer: LENGTHS[trainer].epochs if trainer in LENGTHS else 0,
    )
    known = [stage.key for stage in stages]
    if only is not None and only not in known:
        raise UHFError(f"--only {only}: the demo has no such stage; choose one of {', '.join(known)}")
    state = open_folder(folders.out, settings.as_json(), name=STATE_NAME)
    if only is not None:
        state.finished = {key: seconds for key, seconds in state.finished.items() if key != only}
        stages = [replace(stage, after=()) for stage in stages if stage.key == only]
    else:
        console.print(
            f"{settings.subjects} phantoms from the ICBM template: nothing is downloaded, nothing is a patient.",
            f"Four minutes on two free CPU cores in 2D; logs in {folders.logs}",
            sep="\n",
            highlight=False,
            soft_wrap=True,
        )
    before = time.monotonic()
    run_stages(
        stages,
        state=state,
        environment=environment(folders),
        logs=folders.logs,
        console=console,
        side_by_side=SIDE_BY_SIDE,
    )
    page = folders.out / "index.html"
    if only is not None:
        return page
    scores = read_scores(settings, folders)
    commands = command_lines(stages, settings=settings, folders=folders)
    text = render_demo(
        settings=settings,
        scores=scores,
        pictures=picture_subjects(settings, folders),
        commands=commands,
        seconds=time.monotonic() - before,
        device=device,
        date=datetime.datetime.now(tz=datetime.UTC).date(),
    )
    for path, content in ((folders.out / "commands.sh", "\n".join(commands) + "\n"), (page, text)):
        with written_whole(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    console.print(image_table(scores), dice_table(scores), sep="\n\n")
    console.print(
        "Phantoms, small networks, minutes of training: this shows the chain at work and is no evidence.",
        f"Report: {page}",
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )
    return page
