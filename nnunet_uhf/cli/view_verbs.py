"""Verbs about 2D networks of three planes: aggregate-views. Plans for a plane: the verb plan."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import OutputFolder


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    example = "aggregate-views -i AXIAL CORONAL SAGITTAL -o OUT --weights 0.4 0.4 0.2"
    app.command("aggregate-views", epilog=f"Example: nnunet-uhf {example}")(aggregate_views)


def aggregate_views(
    folders: Annotated[
        list[Path],
        typer.Option("-i", metavar="FOLDER...", help="Axial, coronal and sagittal predictions with probabilities."),
    ],
    output: OutputFolder,
    weights: Annotated[
        list[float] | None,
        typer.Option("--weights", metavar="NUMBER...", help="One a folder, of any sum. Default: 0.4 0.4 0.2."),
    ] = None,
    merged: Annotated[
        Path | None,
        typer.Option(
            "--sagittal-merged",
            metavar="FILE",
            help='JSON: class of the sagittal model -> the classes it merges, {"amygdala": ["left_amygdala", ...]}. '
            "Default: by the words left and right in the class names.",
        ),
    ] = None,
    save_npz: Annotated[bool, typer.Option("--save_npz", help="Also write the mean probabilities.")] = False,
    processes: Annotated[
        int | None, typer.Option("-np", metavar="N", min=1, help="Cases at a time. Default: as nnU-Net.")
    ] = None,
) -> None:
    """Average the probabilities of models of three slice planes into one segmentation a case."""
    from nnunetv2.configuration import default_num_processes
    from rich.console import Console

    from nnunet_uhf.view_aggregation import aggregate_views as run

    written = run(
        folders,
        output,
        weights=weights,
        sagittal_merged=merged,
        save_probabilities=save_npz,
        num_processes=processes or default_num_processes,
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {len(written)} segmentations to {output}\n")
