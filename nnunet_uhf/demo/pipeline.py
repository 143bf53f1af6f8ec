"""`nnunet-uhf demo`: the whole chain on phantom subjects, on a laptop, without downloads."""

from __future__ import annotations

import datetime
from pathlib import Path

from rich.console import Console

from nnunet_uhf.demo.chain import build_stages, environment
from nnunet_uhf.demo.pictures import picture_subjects
from nnunet_uhf.demo.report import command_lines, render_demo
from nnunet_uhf.demo.scores import dice_table, image_table, read_scores
from nnunet_uhf.demo.settings import DemoSettings, Folders
from nnunet_uhf.devices import device_of_command
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.stages import open_folder, run_stages
from nnunet_uhf.trainers.demo import LENGTHS

STATE_NAME = "demo"
"""The state is kept in demo.json."""


def run_demo(
    *,
    out: Path,
    device: str = "cpu",
    settings: DemoSettings | None = None,
    console: Console | None = None,
) -> Path:
    """Make phantom subjects, run every stage of the chain on them and report; returns the path of index.html.

    Stages that a former run in `out` has finished are not repeated. `device` is nnU-Net's: cpu, cuda or mps.

    Raises:
        UHFError: `out` holds something else, a stage fails (the message names its log), unknown device.
    """
    device = device_of_command(device).type
    settings = settings or DemoSettings()
    console = console or Console()
    folders = Folders(out.expanduser().resolve())
    state = open_folder(folders.out, settings.as_json(), name=STATE_NAME)
    stages = build_stages(
        settings,
        folders,
        device=device,
        epochs_of=lambda trainer: LENGTHS[trainer].epochs if trainer in LENGTHS else 0,
    )
    console.print(
        f"{settings.subjects} phantom subjects from the ICBM template: nothing is downloaded, nothing is a patient.",
        f"Less than half an hour on two CPU cores; logs in {folders.logs}",
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )
    run_stages(stages, state=state, environment=environment(folders), logs=folders.logs, console=console)

    scores = read_scores(settings, folders)
    page = folders.out / "index.html"
    text = render_demo(
        settings=settings,
        scores=scores,
        pictures=picture_subjects(settings, folders),
        commands=command_lines(stages, out=folders.out),
        seconds=sum(state.finished.values()),
        device=device,
        date=datetime.datetime.now(tz=datetime.UTC).date(),
    )
    with written_whole(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    console.print(image_table(scores), dice_table(scores), sep="\n\n")
    console.print(
        "Phantoms, small networks, minutes of training: this shows the chain at work and is no evidence.",
        f"Report: {page}",
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )
    return page
