"""The verb prolong: a finished training goes on."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import Configuration, Dataset, Fold, Plans, add_verbs, fold_number, require_folders


def add_to(app: typer.Typer) -> None:
    """Give `app` the verb of this module."""
    add_verbs(
        app,
        ("prolong", prolong, "prolong -d 1 -c 2d -f 0 -tr UHFKeeperTrainer_50epochs --epochs 100"),
        group="Keepers and guided networks",
    )


def prolong(
    dataset: Dataset,
    configuration: Configuration,
    fold: Fold,
    trainer: Annotated[
        str, typer.Option("-tr", metavar="TRAINER", help="That trained it: one of ours, or nnU-Net's own.")
    ],
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", help="Of the whole training, those it has included.")],
    plans: Plans = "nnUNetPlans",
) -> None:
    """Let a finished training go on to more epochs; prints the command that does it. What is finished stays."""
    number = fold_number(fold)
    require_folders("nnUNet_preprocessed", "nnUNet_results")
    from nnunet_uhf.trainers.prolong import prolong as run

    model = run(dataset, configuration, number, trainer=trainer, epochs=epochs, plans=plans)
    command = ("nnUNetv2_train", dataset, configuration, fold, "-tr", model.name.trainer, "-p", plans, "--c")
    sys.stderr.write(f"{model.path} holds the fold as far as it is trained; this goes on with it:\n")
    sys.stdout.write(f"{shlex.join(command)}\n")
