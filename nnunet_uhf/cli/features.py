"""The verb features: maps of a network as files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import Device, OutputFolder, add_verbs, fold_number, torch_device


def add_to(app: typer.Typer) -> None:
    """Give `app` the verb of this module."""
    add_verbs(
        app,
        ("features", features, "features -i IMAGES -m keeper.safetensors -o MAPS --levels 0 2"),
        group="Images that networks make",
    )


def features(
    images: Annotated[
        Path, typer.Option("-i", metavar="FOLDER", help="Folder of NIfTI images, CASE_0000 .. for several channels.")
    ],
    model: Annotated[
        Path,
        typer.Option("-m", metavar="KEEPER_OR_MODEL", help="Keeper file, builtin, or any finished nnU-Net folder."),
    ],
    output: OutputFolder,
    levels: Annotated[
        list[int] | None, typer.Option("--levels", metavar="N...", help="Which maps, 0 the finest. Default: all.")
    ] = None,
    fold: Annotated[
        str | None, typer.Option("-f", metavar="FOLD", help="Of a model folder. Default: the first that is finished.")
    ] = None,
    npz: Annotated[bool, typer.Option("--npz", help="One numpy file a case in place of NIfTI files.")] = False,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write anew what is already there.")] = False,
) -> None:
    """Write the feature maps of a keeper, or of the encoder of any finished nnU-Net, with their place in the world."""
    from rich.console import Console

    from nnunet_uhf.inference.features import features as run

    written = run(
        images,
        output,
        model,
        levels=levels,
        fold=None if fold is None else fold_number(fold),
        npz=npz,
        device=torch_device(device),
        overwrite=overwrite,
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {len(written)} files to {output}\n")
