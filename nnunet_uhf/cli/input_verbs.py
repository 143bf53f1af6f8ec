"""Verb about what a keeper is given: check-input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import Device, torch_device


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    app.command("check-input", epilog="Example: nnunet-uhf check-input -i IMAGES -m keeper.safetensors")(check_input)


def check_input(
    images: Annotated[Path, typer.Option("-i", metavar="FOLDER", help="Folder of NIfTI images, or one image.")],
    model: Annotated[
        Path, typer.Option("-m", metavar="KEEPER_OR_MODEL", help="Keeper file, or model folder of a guided training.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", metavar="FILE", help="Also write every level of every image (*.csv).")
    ] = None,
    device: Device = "cpu",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit status 1 when an image is beyond what the keeper was trained on.")
    ] = False,
) -> None:
    """Say whether images are like those a keeper was trained on, by its features."""
    from rich.console import Console

    from nnunet_uhf.input_report import check_inputs, describe

    used = torch_device(device)
    checks = check_inputs(images, model, output=output, device=used, console=Console(stderr=True))
    Console().print(describe(checks))
    if output is not None:
        sys.stdout.write(f"wrote {output}\n")
    if strict and any(check.verdict != "within" for check in checks.values()):
        raise typer.Exit(1)
