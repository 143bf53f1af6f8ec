"""Options that several verbs share, named as nnU-Net names them, and what is made of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.files import root_folder

if TYPE_CHECKING:
    import torch

Dataset = Annotated[str, typer.Option("-d", metavar="DATASET", help="Dataset name or id.")]
Configuration = Annotated[str, typer.Option("-c", metavar="CONFIGURATION", help="For example 3d_fullres.")]
Fold = Annotated[str, typer.Option("-f", metavar="FOLD", help="0 to 4, or all.")]
Plans = Annotated[str, typer.Option("-p", metavar="PLANS", help="Plans name.")]
Device = Annotated[
    str | None,
    typer.Option("-device", metavar="DEVICE", help="cuda, cpu or mps. Default: cuda where there is one, else cpu."),
]
HELP = {"help_option_names": ["-h", "--help"]}
InputFolder = Annotated[Path, typer.Option("-i", metavar="FOLDER", help="Folder of images.")]
OutputFolder = Annotated[Path, typer.Option("-o", metavar="FOLDER", help="Folder to write to.")]


def add_verbs(
    app: typer.Typer, *verbs: tuple[str, Callable[..., None], str], group: str | None = None, parent: str = ""
) -> None:
    """Give an app its verbs in this order.

    Args:
        app: the app.
        verbs: name, function and an example, which begins with the name of the verb or is a whole command.
        group: heading of the verbs in the help.
        parent: verb whose verbs they are, as the examples name it.
    """
    for name, function, example in verbs:
        shown = " ".join(filter(None, ("nnunet-uhf", parent, example))) if example.startswith(name) else example
        app.command(name, epilog=f"Example: {shown}", rich_help_panel=group, context_settings=HELP)(function)


def require_folders(*variables: str) -> None:
    """Raise UHFError unless each of nnU-Net's `variables` names a folder that exists."""
    for variable in variables:
        folder = root_folder(variable)
        if not folder.is_dir():
            raise UHFError(f"{folder}: no such folder; make it, or correct {variable}")


def fold_number(fold: str) -> int | str:
    """Return the fold as nnU-Net has it: a number, or "all"."""
    if fold == "all":
        return fold
    if not fold.isdecimal():
        raise UHFError(f"-f {fold}: a fold is a number such as 0, or all")
    return int(fold)


def torch_device(name: str | None) -> torch.device:
    """As :func:`nnunet_uhf.devices.device_of_command`, and says on stderr what was chosen where nothing was asked for.

    Help does not wait for torch.
    """
    from nnunet_uhf.devices import device_of_command

    device = device_of_command(name)
    if name is None:
        sys.stderr.write(f"device: {device.type}\n")
    return device
