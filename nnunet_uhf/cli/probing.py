"""The verb probe: what frozen maps know of structures."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import (
    Dataset,
    Device,
    OutputFolder,
    add_verbs,
    fold_number,
    require_folders,
    torch_device,
)
from nnunet_uhf.errors import UHFError


def add_to(app: typer.Typer) -> None:
    """Give `app` the verb of this module."""
    add_verbs(app, ("probe", probe, "probe -m keeper.safetensors -d 2 -o PROBE"), group="Keepers and guided networks")


def probe(
    models: Annotated[
        list[str],
        typer.Option(
            "-m",
            metavar="KEEPER_OR_MODEL...",
            help="Keeper files and model folders; of the controls random, image and neighbourhood those named here, "
            "else all.",
        ),
    ],
    dataset: Dataset,
    output: OutputFolder,
    names: Annotated[
        list[str] | None, typer.Option("--names", metavar="NAME...", help="Of keepers and models, in tables.")
    ] = None,
    labelled: Annotated[
        int, typer.Option("--labelled", metavar="N", min=1, help="Subjects that the classifier learns from.")
    ] = 5,
    tested: Annotated[
        int | None, typer.Option("--tested", metavar="N", min=2, help="Subjects that are tested. Default: all others.")
    ] = None,
    fold: Annotated[
        str | None, typer.Option("-f", metavar="FOLD", help="Of model folders. Default: the first that is finished.")
    ] = None,
    beside_image: Annotated[
        bool,
        typer.Option(
            "--beside-image",
            help="Maps of networks with the image and its smoothed copies beside them: what do they add?",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of subjects, voxels and random weights.")] = 0,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write anew what is already there.")] = False,
) -> None:
    """Say how much of a dataset's structures stands in frozen maps: a linear classifier, few labels, no training."""
    require_folders("nnUNet_raw")
    from rich.console import Console

    from nnunet_uhf.evaluation.probe.report import FILES, as_json, as_table, notes, write_report
    from nnunet_uhf.evaluation.probe.run import probe as run

    there = [output / name for name in FILES if (output / name).exists()]
    if there and not overwrite:
        raise UHFError(f"{there[0]} is there already: choose another folder (-o), or --overwrite")
    result = run(
        models,
        dataset,
        names=names or (),
        labelled=labelled,
        tested=tested,
        seed=seed,
        fold=None if fold is None else fold_number(fold),
        beside_image=beside_image,
        device=torch_device(device),
        console=Console(stderr=True),
    )
    content = as_json(result)
    Console().print(as_table(content))
    for note in notes(content):
        sys.stdout.write(f"{note}\n")
    write_report(result, output)
    sys.stdout.write(f"wrote {', '.join(FILES)} to {output}\n")
