"""Write index.html: one self-contained page with the tables, the pictures and the commands of a demo."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from nnunet_uhf import __version__
from nnunet_uhf.demo.chain import settings_of_shell
from nnunet_uhf.demo.pictures import TISSUE_COLOURS, SubjectPicture
from nnunet_uhf.demo.scores import IMAGE_ROWS, DemoScores
from nnunet_uhf.demo.settings import MODELS, NAMES, DemoSettings, Folders
from nnunet_uhf.demo.subjects import TEMPLATE_LICENCE, TISSUES
from nnunet_uhf.pages.engine import render_page
from nnunet_uhf.report.plots import curve_plot
from nnunet_uhf.stages import Stage


def render_demo(
    *,
    settings: DemoSettings,
    scores: DemoScores,
    pictures: Sequence[SubjectPicture],
    commands: Sequence[str],
    seconds: float,
    device: str,
    date: datetime.date,
) -> str:
    """The page as HTML text. It refers to no other file: pictures are data URIs, styles are inline."""
    return render_page(
        "nnunet_uhf.demo",
        "page.html",
        version=__version__,
        date=date.isoformat(),
        settings=settings,
        scores=scores,
        images={(score.configuration, score.row): score for score in scores.images},
        image_rows=IMAGE_ROWS,
        names=NAMES,
        plots={
            configuration: curve_plot(
                {NAMES[model]: [scores.curves[configuration][model]] for model in MODELS},
                f"{configuration}: Dice of validation patches",
            )
            for configuration in settings.configurations
        },
        pictures=pictures,
        commands=commands,
        minutes=f"{seconds / 60:.0f}",
        device=device,
        configurations=settings.configurations,
        tissues=list(TISSUES),
        colours=TISSUE_COLOURS,
        template_licence=TEMPLATE_LICENCE,
    )


def command_lines(stages: Sequence[Stage], *, settings: DemoSettings, folders: Folders) -> list[str]:
    """A shell script that makes all of it again in a new folder: its settings, then every stage as one would type it.

    Steps of the demo's own, which are no command of nnU-Net or nnunet-uhf, are those of `nnunet-uhf demo --only`.
    """

    def inside(word: str) -> str:
        return os.path.relpath(word, folders.out) if Path(word).is_absolute() else word

    lines = ["set -e", 'mkdir "${1:-again}"', 'cd "${1:-again}"']
    for name, value in settings_of_shell(folders).items():
        here = f'"$PWD/{inside(value)}"' if Path(value).is_absolute() else shlex.quote(value)
        lines.append(f"export {name}={here}")
    for stage in stages:
        own = ("nnunet-uhf", "demo", "--out", ".", "-c", *settings.configurations, "--only", stage.key)
        words = stage.command or own
        setting = [f"{name}={shlex.quote(value)}" for name, value in stage.environment.items()]
        lines.append(" ".join([*setting, shlex.join([inside(word) for word in words])]))
    return lines
