"""Verbs that convert scans with label maps: convert folders, ibsr, malc, freesurfer, bids."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnunet_uhf.cli.arguments import add_verbs

if TYPE_CHECKING:
    from nnunet_uhf.preprocessing.labelled.scans import Conversion, ConversionOptions

Source = Annotated[Path, typer.Option("-i", metavar="FOLDER", help="The dataset as it was downloaded.")]
Output = Annotated[
    Path, typer.Option("-o", metavar="FOLDER", help="The dataset to write, such as $nnUNet_raw/Dataset111_IBSR.")
]
Test = Annotated[
    list[str] | None, typer.Option("--test", metavar="CASE...", help="Cases for imagesTs, kept out of training.")
]
Channel = Annotated[
    str, typer.Option("--channel", metavar="NAME", help="Name of the channel; keepers are matched to it.")
]
Mapping = Annotated[
    Path | None,
    typer.Option(
        "--mapping", metavar="JSON", help='What label numbers mean, as {"71": "Left-Cerebellum-Cortex", "46": null}.'
    ),
]
SkipIncomplete = Annotated[
    bool, typer.Option("--skip-incomplete", help="Leave out cases without image or labels instead of stopping.")
]
SameVoxels = Annotated[
    bool,
    typer.Option("--same-voxels", help="Labels lie voxel for voxel on their image, whatever the headers say: look!"),
]
MergeSides = Annotated[
    bool, typer.Option("--merge-sides", help="Left and right as one structure, for the sagittal plane.")
]


def add_to(app: typer.Typer) -> None:
    """Give `app`, the verb convert, the verbs of this module."""
    add_verbs(
        app,
        ("folders", folders, "folders -i IMAGES --labels LABELS -o $nnUNet_raw/Dataset102_Mine --mapping names.json"),
        ("ibsr", ibsr, "ibsr -i IBSR_nifti_stripped -o $nnUNet_raw/Dataset111_IBSR --test 10 11 12"),
        ("malc", malc, "malc -i MICCAI-2012-Multi-Atlas-Challenge-Data -o $nnUNet_raw/Dataset112_MALC"),
        ("freesurfer", freesurfer, "freesurfer -i $SUBJECTS_DIR -o $nnUNet_raw/Dataset113_Aseg --image brain"),
        ("bids", bids, "bids -i STUDY -o $nnUNet_raw/Dataset114_Study --contrast T1w FLAIR --field 3"),
        parent="convert",
    )


def folders(
    images: Annotated[
        list[Path], typer.Option("-i", metavar="FOLDER...", help="Images, a folder for each channel; names as labels.")
    ],
    labels: Annotated[Path, typer.Option("--labels", metavar="FOLDER", help="Label maps on the grids of the images.")],
    output: Output,
    channel: Annotated[
        list[str] | None,
        typer.Option("--channel", metavar="NAME...", help="Of each folder; keepers are matched to it. Default: T1w."),
    ] = None,
    image_suffix: Annotated[
        list[str] | None,
        typer.Option("--image-suffix", metavar="TEXT...", help="Behind the case in the names of each folder: _T1w."),
    ] = None,
    label_suffix: Annotated[
        str, typer.Option("--label-suffix", metavar="TEXT", help="Behind the case in the names of label maps: _seg.")
    ] = "",
    test: Test = None,
    mapping: Mapping = None,
    same_voxels: SameVoxels = False,
    skip_incomplete: SkipIncomplete = False,
) -> None:
    """A folder of images and a folder of label maps with the same names."""
    from nnunet_uhf.preprocessing.labelled.folders import convert_folders

    _run(
        partial(convert_folders, images),
        labels,
        output,
        channels=channel or ("T1w",),
        image_suffixes=image_suffix or (),
        label_suffix=label_suffix,
        options=_options(test, mapping, skip_incomplete, same_voxels=same_voxels),
    )


def ibsr(
    source: Source,
    output: Output,
    filled: Annotated[bool, typer.Option("--filled", help="Take segTRI_fill_ana: holes are CSF.")] = False,
    clahe: Annotated[
        bool, typer.Option("--clahe", help="Equalise histograms locally, as the paper: kernel shape // 5, clip 0.2.")
    ] = False,
    test: Test = None,
    channel: Channel = "T1w",
    mapping: Mapping = None,
    same_voxels: SameVoxels = False,
    skip_incomplete: SkipIncomplete = False,
) -> None:
    """IBSR18: IBSR_XX_ana_strip and IBSR_XX_segTRI_ana; CSF, GM, WM."""
    from nnunet_uhf.preprocessing.labelled.ibsr import convert_ibsr

    _run(
        convert_ibsr,
        source,
        output,
        filled=filled,
        channel=channel,
        options=_options(test, mapping, skip_incomplete, same_voxels=same_voxels, clahe=clahe),
    )


def malc(
    source: Source,
    output: Output,
    merge_sides: MergeSides = False,
    test: Test = None,
    channel: Channel = "T1w",
    mapping: Mapping = None,
    same_voxels: SameVoxels = False,
    skip_incomplete: SkipIncomplete = False,
) -> None:
    """MICCAI 2012 multi-atlas data: 1000_3 and 1000_3_glm; 27 structures."""
    from nnunet_uhf.preprocessing.labelled.malc import convert_malc

    _run(
        convert_malc,
        source,
        output,
        merge_sides=merge_sides,
        channel=channel,
        options=_options(test, mapping, skip_incomplete, same_voxels=same_voxels),
    )


def freesurfer(
    source: Source,
    output: Output,
    image: Annotated[str, typer.Option("--image", metavar="NAME", help="brain, norm, orig or another of mri/.")] = (
        "brain"
    ),
    merge_sides: MergeSides = False,
    test: Test = None,
    channel: Channel = "T1w",
    mapping: Mapping = None,
    skip_incomplete: SkipIncomplete = False,
) -> None:
    """FreeSurfer's subjects folder: an image and aseg.mgz of each subject; 27 structures."""
    from nnunet_uhf.preprocessing.labelled.freesurfer import convert_freesurfer

    _run(
        convert_freesurfer,
        source,
        output,
        image=image,
        merge_sides=merge_sides,
        channel=channel,
        options=_options(test, mapping, skip_incomplete),
    )


def bids(
    source: Source,
    output: Output,
    contrast: Annotated[
        list[str] | None,
        typer.Option("--contrast", metavar="NAME...", help="T1w, T2w, FLAIR: the channels; T1w when not given."),
    ] = None,
    derivatives: Annotated[
        Path | None,
        typer.Option("--derivatives", metavar="FOLDER", help="Where the *_dseg are; without it, derivatives in -i."),
    ] = None,
    entity: Annotated[
        list[str] | None,
        typer.Option("--entity", metavar="KEY-VALUE...", help="Of the scans: acq-iso; acq-: none."),
    ] = None,
    label_entity: Annotated[
        list[str] | None,
        typer.Option("--label-entity", metavar="KEY-VALUE...", help="Of *_dseg: desc-manual; desc-: none."),
    ] = None,
    field: Annotated[
        float | None, typer.Option("--field", metavar="TESLA", help="Only scans of this field strength.")
    ] = None,
    test: Test = None,
    mapping: Mapping = None,
    skip_incomplete: SkipIncomplete = False,
) -> None:
    """BIDS: scans of anat and *_dseg label maps of the derivatives, session by session."""
    from nnunet_uhf.preprocessing.labelled.bids import convert_bids

    _run(
        convert_bids,
        source,
        output,
        contrasts=contrast or ("T1w",),
        derivatives=derivatives,
        entities=entity or (),
        label_entities=label_entity or (),
        field=field,
        options=_options(test, mapping, skip_incomplete),
    )


def _options(
    test: list[str] | None,
    mapping: Path | None,
    skip_incomplete: bool,
    *,
    same_voxels: bool = False,
    clahe: bool = False,
) -> ConversionOptions:
    """What was asked of the layout as of every other."""
    from nnunet_uhf.preprocessing.labelled.scans import ConversionOptions

    return ConversionOptions(
        test=test or (), mapping=mapping, same_voxels=same_voxels, skip_incomplete=skip_incomplete, clahe=clahe
    )


def _run(convert: Callable[..., Conversion], *places: Path, **options: Any) -> None:
    """Convert; say what was written, and on stderr what to know about it."""
    from rich.console import Console

    conversion = convert(*places, **options, console=Console(stderr=True))
    for warning in conversion.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    sys.stdout.write(f"wrote {conversion.dataset}\n")
