"""The verb run: from a labelled dataset to the comparison."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from nnunet_uhf.cli.arguments import (
    Dataset,
    Device,
    OutputFolder,
    Plans,
    add_verbs,
    fold_number,
    require_folders,
    torch_device,
)
from nnunet_uhf.errors import UHFError


def add_to(app: typer.Typer) -> None:
    """Give `app` the verb of this module."""
    add_verbs(
        app,
        ("run", run, "run -d 102 --pairs 101 -c 2d 3d_fullres -f 0 1 2 3 4 -o run_102"),
        group="All at once",
    )


def run(
    dataset: Dataset,
    configurations: Annotated[list[str], typer.Option("-c", metavar="CONFIGURATION...", help="One or more.")],
    output: OutputFolder,
    folds: Annotated[
        list[str] | None, typer.Option("-f", metavar="FOLD...", help="0 to 4, or all. Default: all five.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs", metavar="DATASET", help="Pairs, or high-field scans, to train a keeper on first: name or id."
        ),
    ] = None,
    keeper: Annotated[
        str | None,
        typer.Option("--keeper", metavar="PLACE", help="Keeper file or folder in the place of --pairs. Or: builtin."),
    ] = None,
    plans: Plans = "nnUNetPlans",
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", help="Of plain and guided trainings. Default: 1000.")
    ] = None,
    keeper_epochs: Annotated[
        int | None, typer.Option("--keeper-epochs", metavar="N", help="Of teacher and keeper. Default: 250.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of plain and guided trainings, which start alike.")] = 1,
    images: Annotated[
        Path | None, typer.Option("-i", metavar="FOLDER", help="Further images to segment by both models.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("-ref", metavar="FOLDER", help="True label maps of these images, for a page of them.")
    ] = None,
    gpus: Annotated[int, typer.Option("-num_gpus", metavar="N", min=1, help="Of this machine, for each training.")] = 1,
    device: Device = None,
    part: Annotated[
        Literal["prepare", "train", "finish"] | None,
        typer.Option("--part", help="Only these steps. Default: all, in this order."),
    ] = None,
    print_only: Annotated[
        bool, typer.Option("--print", help="Show the commands that are left, one a line, and do nothing.")
    ] = False,
) -> None:
    """Keeper, plain and guided nnU-Net, predictions and their comparison; the same command goes on where it stopped."""
    if pairs is not None and keeper is not None:
        raise UHFError("--pairs trains a keeper, --keeper names one that is there: leave one of them away")
    require_folders("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    from nnunet_uhf.keepers.packaged import BUILTIN, is_builtin
    from nnunet_uhf.nnunet.files import dataset_name
    from nnunet_uhf.runs.chain import PARTS
    from nnunet_uhf.runs.run import carry_out, commands
    from nnunet_uhf.runs.settings import DEFAULT_FOLDS, RunSettings

    place = BUILTIN if keeper is None else keeper
    settings = RunSettings(
        dataset=dataset_name(dataset),
        configurations=tuple(configurations),
        folds=tuple(map(fold_number, folds)) if folds else DEFAULT_FOLDS,
        plans=plans,
        pairs=None if pairs is None else dataset_name(pairs),
        keeper=place if is_builtin(place) else str(Path(place).resolve()),
        epochs=epochs,
        keeper_epochs=keeper_epochs,
        seed=seed,
        images=None if images is None else str(images.resolve()),
        reference=None if reference is None else str(reference.resolve()),
    )
    used = torch_device(device).type
    parts = PARTS if part is None else (part,)
    if print_only:
        lines = commands(settings, output.resolve(), device=used, gpus=gpus, parts=parts)
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return
    for page in carry_out(settings, output.resolve(), device=used, gpus=gpus, parts=parts):
        sys.stdout.write(f"page: {page}\n")
