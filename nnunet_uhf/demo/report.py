"""Write index.html: one self-contained page with the tables, the pictures and the commands of a demo."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from nnunet_uhf import __version__
from nnunet_uhf.demo.pictures import TISSUE_COLOURS, SubjectPicture
from nnunet_uhf.demo.scores import IMAGE_ROWS, DemoScores
from nnunet_uhf.demo.settings import CONFIGURATIONS, DemoSettings
from nnunet_uhf.demo.subjects import TEMPLATE_LICENCE, TISSUES
from nnunet_uhf.pages.engine import render_page
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
        pictures=pictures,
        commands=commands,
        minutes=f"{seconds / 60:.0f}",
        device=device,
        configurations=CONFIGURATIONS,
        tissues=list(TISSUES),
        colours=TISSUE_COLOURS,
        template_licence=TEMPLATE_LICENCE,
    )


def command_lines(stages: Sequence[Stage], *, out: Path) -> list[str]:
    """The stages' commands as one would type them inside the demo folder."""
    lines = []
    for stage in stages:
        if stage.command:
            words = [os.path.relpath(word, out) if Path(word).is_absolute() else word for word in stage.command]
            lines.append(shlex.join(words))
    return lines
