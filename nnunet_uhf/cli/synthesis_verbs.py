"""Verb about images that no scanner made: synthesise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nnunet_uhf.cli.arguments import OutputFolder

# TR, TE, flip angle and TI of each sequence where the user names none (ours: T1w, T2w, T1w)
DEFAULTS: dict[str, dict[str, Any]] = {
    "spgr": {"tr_ms": 20.0, "te_ms": 4.0, "flip_angle_deg": 30.0},
    "se": {"tr_ms": 5000.0, "te_ms": 90.0},
    "ir": {"tr_ms": 2500.0, "te_ms": 4.0, "ti_ms": 1100.0},
}


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    example = "synthesise -i LABEL_MAPS -o OUT --field 0.36 3 7 --sequence spgr"
    app.command("synthesise", epilog=f"Example: nnunet-uhf {example}")(synthesise)


def synthesise(
    label_maps: Annotated[Path, typer.Option("-i", metavar="FOLDER", help="Folder of label maps.")],
    output: OutputFolder,
    fields: Annotated[
        list[float], typer.Option("--field", metavar="TESLA...", help="Field strengths, 0.1 to 7 (se: 1.5 to 7).")
    ],
    sequence: Annotated[
        Literal["spgr", "se", "ir"],
        typer.Option("--sequence", help="Spoiled gradient echo, spin echo or inversion recovery."),
    ] = "spgr",
    tr: Annotated[
        float | None, typer.Option("--tr", metavar="MS", help="Repetition time. Default: spgr 20, se 5000, ir 2500.")
    ] = None,
    te: Annotated[
        float | None, typer.Option("--te", metavar="MS", help="Echo time. Default: spgr 4, se 90, ir 4.")
    ] = None,
    flip_angle: Annotated[
        float | None, typer.Option("--flip-angle", metavar="DEGREES", help="Flip angle of spgr. Default: 30.")
    ] = None,
    ti: Annotated[float | None, typer.Option("--ti", metavar="MS", help="Inversion time of ir. Default: 1100.")] = None,
    variation: Annotated[
        float, typer.Option("--variation", help="Spread of each structure around the published values.")
    ] = 0.03,
    partial_volume: Annotated[
        float, typer.Option("--partial-volume", metavar="MM", help="Sigma by which neighbours mix; 0 is none.")
    ] = 0.5,
    bias: Annotated[float, typer.Option("--bias", help="Strength of a smooth bias field; 0 is none.")] = 0.0,
    snr: Annotated[
        float | None,
        typer.Option("--snr", help="SNR of white matter at 3 T; less at lower fields. Default: no noise."),
    ] = None,
    crop: Annotated[
        int | None, typer.Option("--crop", metavar="VOXELS", help="Cut to the brain and so many voxels around it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same images.")] = 0,
) -> None:
    """Simulate brain images of several field strengths from label maps in FreeSurfer's numbers."""
    from rich.console import Console

    from nnunet_uhf.preprocessing.synthesis import Sequence
    from nnunet_uhf.preprocessing.synthesise import SynthesisOptions, synthesise_folder

    given = {"tr_ms": tr, "te_ms": te, "flip_angle_deg": flip_angle, "ti_ms": ti}
    chosen = DEFAULTS[sequence] | {name: value for name, value in given.items() if value is not None}
    record = synthesise_folder(
        label_maps,
        output,
        fields_tesla=fields,
        sequence=Sequence(kind=sequence, **chosen),
        options=SynthesisOptions(variation=variation, partial_volume_mm=partial_volume, bias=bias, snr=snr, crop=crop),
        seed=seed,
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {record}\n")
