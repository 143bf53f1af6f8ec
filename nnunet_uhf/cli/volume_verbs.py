"""Verb about sizes of structures: volumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    app.command("volumes", epilog="Example: nnunet-uhf volumes -i PREDICTIONS -o volumes.csv")(volumes)


def volumes(
    folders: Annotated[
        list[Path],
        typer.Option("-i", metavar="FOLDER...", help="Folder of segmentations; several: predictions of the folds."),
    ],
    output: Annotated[Path, typer.Option("-o", metavar="FILE", help="Table to write (*.csv), with a .json beside it.")],
    dataset_json: Annotated[
        Path | None,
        typer.Option("-djson", metavar="FILE", help="Names of labels. Default: dataset.json of the first folder."),
    ] = None,
    millilitres: Annotated[bool, typer.Option("--ml", help="Also give the volumes in ml.")] = False,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities/--no-probabilities", help="Also sum the probabilities (*.npz) that are there."),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a table that is there.")] = False,
) -> None:
    """Write the volumes of all structures in mm^3; with several folds, how much these disagree."""
    from rich.console import Console

    from nnunet_uhf.volumes import measure_volumes

    measure_volumes(
        folders,
        output,
        dataset_json=dataset_json,
        millilitres=millilitres,
        probabilities=probabilities,
        overwrite=overwrite,
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {output}\n")
