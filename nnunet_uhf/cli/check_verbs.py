"""Verbs that show how good images are: evaluate-images, qc."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import OutputFolder


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    for name, verb, example in (
        ("evaluate-images", evaluate_images, "evaluate-images -ref HIGH_FIELD -pred ENHANCED -mask BRAIN_MASKS -o OUT"),
        ("qc", qc, "qc -i nnUNet_raw/Dataset101_Pairs -o PICTURES"),
    ):
        app.command(name, epilog=f"Example: nnunet-uhf {example}")(verb)


def evaluate_images(
    reference: Annotated[Path, typer.Option("-ref", metavar="FOLDER", help="Folder of the true images.")],
    prediction: Annotated[
        Path, typer.Option("-pred", metavar="FOLDER", help="Folder of the predicted images, of the same names.")
    ],
    output: OutputFolder,
    mask: Annotated[
        Path | None,
        typer.Option(
            "-mask",
            metavar="FOLDER",
            help="Brain masks or label maps; above 0 is inside. Without: the whole image alone.",
        ),
    ] = None,
    linear_fit: Annotated[
        bool,
        typer.Option("--linear-fit", help="Fit each prediction's intensities to the reference by a straight line."),
    ] = False,
    data_range: Annotated[
        float | None,
        typer.Option("--data-range", help="Peak of PSNR and SSIM. Without: max - min of each reference."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap over cases.")] = 0,
) -> None:
    """Measure predicted images against true ones: PSNR, SSIM, MS-SSIM, NRMSE, MAE, with confidence intervals."""
    from rich.console import Console

    from nnunet_uhf.evaluation_record import describe
    from nnunet_uhf.image_evaluation import evaluate_images as run

    record = run(
        reference,
        prediction,
        output,
        mask=mask,
        linear_fit=linear_fit,
        data_range=data_range,
        seed=seed,
        console=Console(stderr=True),
    )
    Console().print(describe(record))
    sys.stdout.write(f"wrote {output}\n")


def qc(
    dataset: Annotated[Path, typer.Option("-i", metavar="FOLDER", help="Raw nnU-Net dataset, of pairs or labelled.")],
    output: OutputFolder,
) -> None:
    """Draw every case of a dataset, edges or labels over the images, and a page that shows them all."""
    from rich.console import Console

    from nnunet_uhf.preprocessing.qc import write_pictures

    sys.stdout.write(f"wrote {write_pictures(dataset, output, console=Console(stderr=True))}\n")
