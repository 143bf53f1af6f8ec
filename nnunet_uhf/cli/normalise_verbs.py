"""Verb about intensities: normalise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import InputFolder, OutputFolder


def add_to(app: typer.Typer) -> None:
    """Give `app` the verb of this module."""
    app.command("normalise", epilog="Example: nnunet-uhf normalise -i LOW_FIELD -o LOW_FIELD_NYUL")(normalise)


def normalise(
    images: InputFolder,
    output: OutputFolder,
    masks: Annotated[
        Path | None, typer.Option("--masks", metavar="FOLDER", help="Brain masks. Default: nonzero voxels.")
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option("--landmarks", metavar="FILE", help="landmarks.json of the training scans. Default: learn them."),
    ] = None,
) -> None:
    """Bring scans of one contrast and field strength to one intensity scale (Nyul's histogram landmarks)."""
    from rich.console import Console

    from nnunet_uhf.preprocessing.normalise import normalise_folder

    record = normalise_folder(images, output, masks=masks, landmarks=landmarks, console=Console(stderr=True))
    sys.stdout.write(f"wrote {record}\n")
