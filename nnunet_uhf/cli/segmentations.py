"""Verbs about segmentations: compare, volumes, aggregate-views. Plans for a plane: the verb plan."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnunet_uhf.cli.arguments import OutputFolder, add_verbs
from nnunet_uhf.errors import Odd


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    add_verbs(
        app,
        (
            "compare",
            compare,
            "compare -m RESULTS/nnUNetTrainer__nnUNetPlans__2d RESULTS/UHFTrainer__nnUNetPlans__2d -o OUT",
        ),
        ("volumes", volumes, "volumes -i PREDICTIONS -o volumes.csv"),
        ("bids", bids, "bids -i PREDICTIONS -o derivatives/nnunet"),
        ("aggregate-views", aggregate_views, "aggregate-views -i AXIAL CORONAL SAGITTAL -o OUT --weights 0.4 0.4 0.2"),
        group="Segmentations",
    )


def compare(
    output: OutputFolder,
    models: Annotated[
        list[Path] | None, typer.Option("-m", metavar="MODEL...", help="Finished nnU-Net model folders.")
    ] = None,
    predictions: Annotated[
        list[Path] | None, typer.Option("-pred", metavar="FOLDER...", help="Folders of predicted label maps.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("-ref", metavar="FOLDER", help="True label maps. Default: those of the first model's dataset."),
    ] = None,
    dataset_json: Annotated[
        Path | None,
        typer.Option("-djson", metavar="FILE", help="Names of labels. Default: dataset.json of the folders compared."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("-names", metavar="NAME...", help="Names for the report, those of -m before those of -pred."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="NAME", help="What the others are held against. Default: the first."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--metric-tolerance", metavar="MM", help="Of NSD. Default: the longest edge of a voxel, at least 1 mm."
        ),
    ] = None,
    subgroups: Annotated[
        Path | None, typer.Option("--subgroups", metavar="CSV", help="Table with a column case and others to group by.")
    ] = None,
    bins: Annotated[
        list[str] | None,
        typer.Option("--bins", metavar="COLUMN=A,B...", help="Cuts a column of numbers there. Default: at the median."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("-i", metavar="FOLDER", help="Images for the pictures. Default: where nnU-Net has them."),
    ] = None,
    again: Annotated[
        list[str] | None,
        typer.Option("--again", metavar="NAME=FOLDER...", help="Further trainings of a model; means are compared."),
    ] = None,
    paired: Annotated[
        bool,
        typer.Option("--paired", help="Trainings of all models share their seeds, in this order (nnUNet_UHF_SEED)."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
    processes: Annotated[
        int | None, typer.Option("-np", metavar="N", min=1, help="Cases at a time. Default: as nnU-Net.")
    ] = None,
) -> None:
    """Compare segmentation models on the same subjects: scores, paired statistics, and a page with pictures."""
    from nnunetv2.configuration import default_num_processes
    from rich.console import Console

    from nnunet_uhf.report.compare import compare as run
    from nnunet_uhf.report.repeats import parse_again
    from nnunet_uhf.report.subgroups import parse_bins

    odd = Odd()
    record = run(
        models or [],
        predictions or [],
        output,
        reference=reference,
        dataset_json=dataset_json,
        images=images,
        names=names,
        baseline=baseline,
        tolerance_mm=tolerance,
        subgroups=subgroups,
        bins=parse_bins(bins or []),
        again=parse_again(again or []),
        paired=paired,
        seed=seed,
        num_processes=processes or default_num_processes,
        console=Console(stderr=True),
        odd=odd,
    )
    for verdict in record["verdicts"].values():
        sys.stdout.write(f"{verdict['headline']}\n  {' '.join(verdict['sentences'])}\n")
    sys.stdout.write(f"wrote {output / 'index.html'}\n")
    odd.tell()


def aggregate_views(
    folders: Annotated[
        list[Path],
        typer.Option("-i", metavar="FOLDER...", help="Axial, coronal and sagittal predictions with probabilities."),
    ],
    output: OutputFolder,
    weights: Annotated[
        list[float] | None,
        typer.Option("--weights", metavar="NUMBER...", help="One a folder, of any sum. Default: 0.4 0.4 0.2."),
    ] = None,
    merged: Annotated[
        Path | None,
        typer.Option(
            "--sagittal-merged",
            metavar="FILE",
            help='JSON: class of the sagittal model -> the classes it merges, {"amygdala": ["left_amygdala", ...]}. '
            "Default: by the words left and right in the class names.",
        ),
    ] = None,
    save_npz: Annotated[bool, typer.Option("--save_npz", help="Also write the mean probabilities.")] = False,
    processes: Annotated[
        int | None, typer.Option("-np", metavar="N", min=1, help="Cases at a time. Default: as nnU-Net.")
    ] = None,
) -> None:
    """Average the probabilities of models of three slice planes into one segmentation a case."""
    from nnunetv2.configuration import default_num_processes
    from rich.console import Console

    from nnunet_uhf.planes.aggregation import aggregate_views as run

    written = run(
        folders,
        output,
        weights=weights,
        sagittal_merged=merged,
        save_probabilities=save_npz,
        num_processes=processes or default_num_processes,
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {len(written)} segmentations to {output}\n")


def volumes(
    folders: Annotated[
        list[Path],
        typer.Option("-i", metavar="FOLDER...", help="Folder of segmentations; several: predictions of the folds."),
    ],
    output: Annotated[Path, typer.Option("-o", metavar="FILE", help="Table to write (*.csv), with a .json beside it.")],
    dataset_json: Annotated[
        Path | None,
        typer.Option("-djson", metavar="FILE", help="Names of labels. Default: dataset.json of the first folder."),
    ] = None,
    millilitres: Annotated[bool, typer.Option("--ml", help="Also give the volumes in ml.")] = False,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities/--no-probabilities", help="Also sum the probabilities (*.npz) that are there."),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a table that is there.")] = False,
) -> None:
    """Write the volumes of all structures in mm^3; with several folds, how much these disagree."""
    from rich.console import Console

    from nnunet_uhf.evaluation.volumes import measure_volumes

    odd = Odd()
    measure_volumes(
        folders,
        output,
        dataset_json=dataset_json,
        millilitres=millilitres,
        probabilities=probabilities,
        overwrite=overwrite,
        console=Console(stderr=True),
        odd=odd,
    )
    sys.stdout.write(f"wrote {output}\n")
    odd.tell()


def bids(
    predictions: Annotated[Path, typer.Option("-i", metavar="FOLDER", help="Folder of predicted label maps (NIfTI).")],
    output: OutputFolder,
    dataset_json: Annotated[
        Path | None,
        typer.Option("-djson", metavar="FILE", help="Names of labels. Default: the folder's dataset.json."),
    ] = None,
    desc: Annotated[
        str, typer.Option("--desc", metavar="NAME", help="Names the model; letters and digits.")
    ] = "nnunet",
) -> None:
    """Write predicted label maps and their volumes as BIDS derivatives."""
    from rich.console import Console

    from nnunet_uhf.evaluation.bids_derivatives import write_derivatives

    odd = Odd()
    folder = write_derivatives(
        predictions, output, dataset_json=dataset_json, desc=desc, console=Console(stderr=True), odd=odd
    )
    sys.stdout.write(f"wrote {folder}\n")
    odd.tell()
