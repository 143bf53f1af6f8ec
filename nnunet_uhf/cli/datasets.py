"""Verbs about datasets: convert, with a verb for each layout, qc, normalise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from nnunet_uhf.cli import convert_labels, convert_pairs
from nnunet_uhf.cli.arguments import HELP, InputFolder, OutputFolder, add_verbs
from nnunet_uhf.errors import Odd

GROUP = "Datasets"


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module; convert has verbs of its own."""
    add_verbs(
        app,
        ("qc", qc, "qc -i nnUNet_raw/Dataset101_Pairs -o PICTURES"),
        ("normalise", normalise, "normalise -i LOW_FIELD -o LOW_FIELD_NYUL"),
        group=GROUP,
    )
    convert = typer.Typer(
        help="Make a raw nnU-Net dataset from data of another layout; sources stay as they are.",
        epilog="Example: nnunet-uhf convert ibsr -i IBSR_nifti_stripped -o $nnUNet_raw/Dataset111_IBSR",
        context_settings=HELP,
    )
    convert_labels.add_to(convert)
    convert_pairs.add_to(convert)
    app.add_typer(convert, name="convert", rich_help_panel=GROUP)


def qc(
    dataset: Annotated[Path, typer.Option("-i", metavar="FOLDER", help="Raw nnU-Net dataset, of pairs or labelled.")],
    output: OutputFolder,
) -> None:
    """Draw every case of a dataset, edges or labels over the images, and a page that shows them all."""
    from rich.console import Console

    from nnunet_uhf.preprocessing.qc.page import write_pictures

    odd = Odd()
    page = write_pictures(dataset, output, console=Console(stderr=True), odd=odd)
    sys.stdout.write(f"wrote {page}\n")
    odd.tell()


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
    foreground: Annotated[
        Literal["nonzero", "above-mean"],
        typer.Option("--histogram-of", help="Brain voxels: all, or those above the image's mean, as the original."),
    ] = "nonzero",
) -> None:
    """Bring scans of one contrast and field strength to one intensity scale (Nyul's histogram landmarks)."""
    from rich.console import Console

    from nnunet_uhf.preprocessing.normalise import normalise_folder

    record = normalise_folder(
        images, output, masks=masks, landmarks=landmarks, foreground=foreground, console=Console(stderr=True)
    )
    sys.stdout.write(f"wrote {record}\n")
