"""Verbs about the installation: doctor, trainer-path, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import add_verbs


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    add_verbs(
        app,
        ("demo", demo, "demo --out demo -device cpu"),
        ("doctor", doctor, "doctor"),
        ("trainer-path", trainer_path, 'export nnUNet_extTrainer="$(nnunet-uhf trainer-path)"'),
        group="Installation",
    )


def doctor() -> None:
    """Say what is installed, whether it fits together, and what to do about what does not."""
    from rich.console import Console

    from nnunet_uhf.doctor import run

    raise typer.Exit(run(Console()))


def trainer_path() -> None:
    """Print the folder in which nnU-Net finds the trainers, for nnUNet_extTrainer."""
    from nnunet_uhf.installation.trainer_path import trainer_path as folder

    sys.stdout.write(folder() + "\n")


def demo(
    output: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder to work in.")] = Path(
        "nnunet-uhf-demo"
    ),
    device: Annotated[
        str, typer.Option("-device", metavar="DEVICE", help="cuda, cpu or mps. The cpu is enough for the demo.")
    ] = "cpu",
    configurations: Annotated[
        list[str] | None,
        typer.Option("-c", metavar="CONFIGURATION...", help="2d and 3d_fullres. Default: 2d, the quicker one."),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="STAGE", help="Run one stage again, as commands.sh of a demo does.")
    ] = None,
) -> None:
    """Show the whole chain on made subjects, without downloads: four minutes on two free CPU cores."""
    from rich.console import Console

    from nnunet_uhf.demo.pipeline import run_demo
    from nnunet_uhf.demo.settings import DemoSettings

    settings = DemoSettings(configurations=tuple(configurations)) if configurations else None
    run_demo(out=output, device=device, only=only, settings=settings, console=Console())
