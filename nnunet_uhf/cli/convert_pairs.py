"""Verbs that make datasets for networks that make images: convert paired, unpaired, modalities."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nnunet_uhf.cli.arguments import add_verbs
from nnunet_uhf.errors import UHFError

if TYPE_CHECKING:
    from nnunet_uhf.preprocessing.pairing.alignment import Alignment
    from nnunet_uhf.preprocessing.pairing.case_table import PairFiles

Output = Annotated[
    Path, typer.Option("-o", metavar="FOLDER", help="The dataset to write, such as $nnUNet_raw/Dataset101_Pairs.")
]
FieldLF = Annotated[float, typer.Option("--field-lf", metavar="TESLA", help="Field strength of the LF scans.")]
FieldHF = Annotated[float, typer.Option("--field-hf", metavar="TESLA", help="Field strength of the HF scans.")]
MaskSource = Annotated[
    Literal["nonzero", "head", "hd-bet"],
    typer.Option(
        "--mask",
        help="Without given masks: nonzero voxels, the brain of skull-stripped scans; the whole head; or the brain by "
        "HD-BET, which is an extra.",
    ),
]
Spacing = Annotated[
    tuple[float, float, float] | None,
    typer.Option(metavar="X Y Z", help="Voxel size in mm along the file's axes, where the stored one is wrong."),
]


def add_to(app: typer.Typer) -> None:
    """Give `app`, the verb convert, the verbs of this module."""
    add_verbs(
        app,
        ("paired", paired, "paired --lf LOW --hf HIGH -o $nnUNet_raw/Dataset101_Pairs --field-lf 0.36 --field-hf 7"),
        (
            "unpaired",
            unpaired,
            "unpaired --lf LOW --hf HIGH -o $nnUNet_raw/Dataset102_Domains --field-lf 0.36 --field-hf 7",
        ),
        (
            "modalities",
            modalities,
            "modalities --csv scans.csv -o $nnUNet_raw/Dataset103_Brain --field T1w=3 T2w=3 FLAIR=1.5",
        ),
        parent="convert",
    )


def paired(
    output: Output,
    field_lf: FieldLF,
    field_hf: FieldHF,
    lf: Annotated[Path | None, typer.Option("--lf", metavar="FOLDER", help="Low-field scans, CASE.nii.gz.")] = None,
    hf: Annotated[Path | None, typer.Option("--hf", metavar="FOLDER", help="High-field scans, same names.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="In place of folders: case,lf,hf and, optional, mask or labels, spacing_lf, spacing_hf.",
        ),
    ] = None,
    subjects: Annotated[
        Path | None,
        typer.Option("--subjects", metavar="FOLDER", help="The paper's layout: S_01/3t_norm.nii, S_01/7t_norm.nii."),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", metavar="FOLDER", help="Brain masks, on the grid of either scan.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FOLDER", help="Label maps in place of masks.")
    ] = None,
    label_names: Annotated[
        str | None, typer.Option("--label-names", metavar="NAMES", help="Of the label maps, such as CSF=1,GM=2,WM=3.")
    ] = None,
    labels_on: Annotated[
        Literal["lf", "hf"] | None,
        typer.Option("--labels-on", help="The scan that masks or label maps were drawn on, where both have one grid."),
    ] = None,
    channel_lf: Annotated[
        str, typer.Option("--channel-lf", metavar="NAME", help="Guided datasets are matched to it.")
    ] = "LF",
    channel_hf: Annotated[str, typer.Option("--channel-hf", metavar="NAME", help="Name of the target.")] = "HF",
    route: Annotated[
        Literal["paired", "simulated"] | None,
        typer.Option(
            "--route",
            help="Whether the LF scans were measured or simulated; by default what simulation.json beside them, or "
            "their headers, say.",
        ),
    ] = None,
    registration: Annotated[
        Literal["none", "rigid", "affine"], typer.Option("--registration", help="none: the scans share a grid.")
    ] = "rigid",
    grid: Annotated[
        Literal["hf", "lf"], typer.Option("--grid", help="The scan that keeps its voxels; the other is resampled.")
    ] = "hf",
    slicewise: Annotated[
        bool, typer.Option("--slicewise", help="Register slice k with slice k, for stacks of a few matching slices.")
    ] = False,
    n4: Annotated[
        Literal["none", "lf", "hf", "both"], typer.Option("--n4", help="Scans whose bias field is removed.")
    ] = "none",
    mask: MaskSource = "nonzero",
    spacing_lf: Spacing = None,
    spacing_hf: Spacing = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the voxels that registration looks at.")] = 0,
) -> None:
    """Pairs of low-field and high-field scans: registered, on one grid, with a report on how well they fit."""
    from rich.console import Console

    from nnunet_uhf.preprocessing.pairing.options import PairingOptions
    from nnunet_uhf.preprocessing.pairing.paired import TABLE_NAME, convert_paired

    cases = _cases(lf, hf, table, subjects, masks=masks, labels=labels)
    corrected: tuple[Literal["lf", "hf"], ...] = ()
    if n4 != "none":
        corrected = ("lf", "hf") if n4 == "both" else (n4,)
    report = convert_paired(
        output,
        cases,
        source_field_T=field_lf,
        target_field_T=field_hf,
        source_channel=channel_lf,
        target_channel=channel_hf,
        route=route,
        label_names=None if label_names is None else _label_names(label_names),
        options=PairingOptions(
            registration=registration,
            grid=grid,
            slicewise=slicewise,
            n4=corrected,
            mask=mask,
            spacing_lf=spacing_lf,
            spacing_hf=spacing_hf,
            seed=seed,
            labels_on=labels_on,
        ),
        console=Console(stderr=True),
    )
    _warn(report)
    sys.stdout.write(f"wrote {len(report)} pairs to {output}, alignment in {output / TABLE_NAME}\n")


def unpaired(
    output: Output,
    field_lf: FieldLF,
    field_hf: FieldHF,
    lf: Annotated[Path, typer.Option("--lf", metavar="FOLDER", help="Low-field scans.")],
    hf: Annotated[Path, typer.Option("--hf", metavar="FOLDER", help="High-field scans of whichever subjects.")],
    masks_lf: Annotated[
        Path | None, typer.Option("--masks-lf", metavar="FOLDER", help="Brain masks of the low-field scans.")
    ] = None,
    masks_hf: Annotated[
        Path | None, typer.Option("--masks-hf", metavar="FOLDER", help="Brain masks of the high-field scans.")
    ] = None,
    channel: Annotated[
        str, typer.Option("--channel", metavar="NAME", help="Name of the contrast that both domains show.")
    ] = "MR",
    mask: MaskSource = "nonzero",
) -> None:
    """Low-field and high-field scans of different subjects: one channel, the domain by case."""
    from rich.console import Console

    from nnunet_uhf.preprocessing.pairing.unpaired import convert_unpaired

    dataset = convert_unpaired(
        output,
        lf=lf,
        hf=hf,
        source_field_T=field_lf,
        target_field_T=field_hf,
        channel=channel,
        masks_lf=masks_lf,
        masks_hf=masks_hf,
        mask=mask,
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {dataset}\n")


def modalities(
    output: Output,
    table: Annotated[
        Path,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="case, a column for each modality (empty: the case lacks it), and, optional, mask or labels.",
        ),
    ],
    field: Annotated[
        list[str], typer.Option("--field", metavar="NAME=TESLA...", help="All modalities with their field strengths.")
    ],
    grid: Annotated[
        str | None, typer.Option("--grid", metavar="NAME", help="Modality whose grid all get. Default: the first.")
    ] = None,
    registration: Annotated[
        Literal["rigid", "affine", "none"], typer.Option("--registration", help="none: scans share a grid already.")
    ] = "rigid",
    thick: Annotated[
        list[str] | None,
        typer.Option("--thick", metavar="NAME=N...", help="Modalities that stay thick: a slice every N voxels."),
    ] = None,
    sources: Annotated[
        list[str] | None, typer.Option("--sources", metavar="NAME...", help="What may be given. Default: all.")
    ] = None,
    targets: Annotated[
        list[str] | None, typer.Option("--targets", metavar="NAME...", help="What may be asked for. Default: all.")
    ] = None,
    preset: Annotated[
        Literal["reference", "efficient", "tiny"], typer.Option("--preset", help="Size of the networks.")
    ] = "reference",
    mask: MaskSource = "nonzero",
    label_names: Annotated[
        str | None, typer.Option("--label-names", metavar="NAME=VALUE,...", help="Of label maps, such as CSF=1,GM=2.")
    ] = None,
) -> None:
    """Scans of several modalities of the same subjects: a channel for each, for Uni-COAL."""
    from rich.console import Console

    from nnunet_uhf.preprocessing.pairing.modalities import ModalityOptions, convert_modalities, modality_table

    tesla = {name: float(value) for name, value in _valued("--field", field).items()}
    stay = {name: int(value) for name, value in _valued("--thick", thick or []).items()}
    uhf = {
        "modalities": tesla,
        **({"sources": sources} if sources else {}),
        **({"targets": targets} if targets else {}),
        **({"thick": stay} if stay else {}),
        "architecture": {"preset": preset},
    }
    dataset = convert_modalities(
        output,
        modality_table(table, list(tesla)),
        uhf=uhf,
        options=ModalityOptions(grid=grid or next(iter(tesla)), registration=registration, thick=stay, mask=mask),
        label_names=None if label_names is None else _label_names(label_names),
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {dataset}\n")


def _valued(option: str, texts: list[str]) -> dict[str, float]:
    """``T1w=3`` as names with numbers."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise UHFError(f"{option} {text}: write a name and a number such as T1w=3") from None
    return found


def _cases(
    lf: Path | None,
    hf: Path | None,
    table: Path | None,
    subjects: Path | None,
    *,
    masks: Path | None,
    labels: Path | None,
) -> dict[str, PairFiles]:
    """The cases of a table, of subjects' folders or of two folders, whichever was given."""
    from nnunet_uhf.preprocessing.pairing.case_table import cases_of_folders, cases_of_subjects, cases_of_table

    if subjects is not None:
        if any(place is not None for place in (lf, hf, table, masks, labels)):
            raise UHFError(f"--subjects {subjects} names all files: leave out --lf, --hf, --csv, --masks and --labels")
        return cases_of_subjects(subjects)
    if table is not None:
        if any(folder is not None for folder in (lf, hf, masks, labels)):
            raise UHFError(f"--csv {table} names all files: leave out --lf, --hf, --masks and --labels")
        return cases_of_table(table)
    if lf is None or hf is None:
        raise UHFError("the scans are not named: give --lf and --hf, --subjects, or a table with --csv")
    return cases_of_folders(lf, hf, masks=masks, labels=labels)


def _label_names(text: str) -> dict[str, int]:
    """``CSF=1,GM=2`` as nnU-Net's labels, with the background."""
    names = {"background": 0}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if not name or not value.isdecimal() or (name in names and names[name] != int(value)):
            raise UHFError(f"--label-names {text}: write names and values such as CSF=1,GM=2,WM=3")
        names[name] = int(value)
    return names


def _warn(report: Mapping[str, Alignment]) -> None:
    """Say on stderr which pairs want a look."""
    for case, found in report.items():
        if found.reasons:
            sys.stderr.write(f"warning: look at {case}: {'; '.join(found.reasons)}\n")
