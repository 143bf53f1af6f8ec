"""Verbs about the installation: doctor, trainer-path."""

from __future__ import annotations

import sys

import typer


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    app.command("doctor", epilog="Example: nnunet-uhf doctor")(doctor)
    app.command("trainer-path", epilog='Example: export nnUNet_extTrainer="$(nnunet-uhf trainer-path)"')(trainer_path)


def doctor() -> None:
    """Say what is installed, whether it fits together, and what to do about what does not."""
    from rich.console import Console

    from nnunet_uhf.doctor import run

    raise typer.Exit(run(Console()))


def trainer_path() -> None:
    """Print the folder in which nnU-Net finds the trainers, for nnUNet_extTrainer."""
    from nnunet_uhf import registration

    sys.stdout.write(registration.trainer_path() + "\n")
