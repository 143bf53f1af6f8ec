"""Verbs about images that no scanner made: simulate, synthesise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nnunet_uhf.cli.arguments import InputFolder, OutputFolder, add_verbs
from nnunet_uhf.errors import UHFError

if TYPE_CHECKING:
    from nnunet_uhf.preprocessing.low_field.tissue_source import TissueSource


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    add_verbs(
        app,
        ("simulate", simulate, "simulate -i IMAGES --labels TISSUES -o LOW_FIELD --preset flair_0.36T --ratio 4"),
        ("synthesise", synthesise, "synthesise -i LABEL_MAPS -o OUT --field 0.36 3 7 --sequence spgr"),
        group="Simulated images",
    )


def simulate(
    images: InputFolder,
    output: OutputFolder,
    preset: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="Scanner and contrast to imitate, or a JSON file.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FOLDER",
            help="Tissue label maps (CSF 1, GM 2, WM 3), or CASE_csf, CASE_gm, CASE_wm probability maps.",
        ),
    ] = None,
    ratio: Annotated[int, typer.Option("--ratio", help="Slice distance in voxels of the input.")] = 4,
    thickness: Annotated[
        float | None, typer.Option("--thickness", help="Slice thickness in voxels, with --gap in place of --ratio.")
    ] = None,
    gap: Annotated[float | None, typer.Option("--gap", help="Slice gap in voxels.")] = None,
    axis: Annotated[
        str, typer.Option("--axis", help="Plane of the slices: axial, coronal, sagittal; or array axis 0, 1, 2.")
    ] = "axial",
    mode: Annotated[
        Literal["native", "regrid"], typer.Option("--mode", help="Thick slices, or back on the input's grid.")
    ] = "regrid",
    noise: Annotated[Literal["gaussian", "rician"], typer.Option("--noise", help="Kind of noise.")] = "gaussian",
    noise_scale: Annotated[
        float, typer.Option("--noise-scale", help="Factor on the preset's noise; above 1 is noisier.")
    ] = 1.0,
    noise_mask: Annotated[
        Literal["everywhere", "brain"], typer.Option("--noise-mask", help="brain: zero outside the brain.")
    ] = "everywhere",
    fixed: Annotated[
        Literal["gm", "wm"], typer.Option("--fixed", help="Tissue that keeps its brightness; the other is scaled.")
    ] = "gm",
    reject_outliers: Annotated[
        bool, typer.Option("--reject-outliers", help="Keep the SNR inside the 95 % ellipse of its distribution.")
    ] = False,
    bias_field: Annotated[
        float,
        typer.Option("--bias-field", help="Strength of a smooth intensity field, 0 to 1; 0.5 is strong."),
    ] = 0.0,
    motion: Annotated[float, typer.Option("--motion", help="Share of scans during which the head moves.")] = 0.0,
    spikes: Annotated[float, typer.Option("--spikes", help="Share of scans with a spike in k-space.")] = 0.0,
    kspace_crop: Annotated[
        float,
        typer.Option("--kspace-crop", help="Largest share of k-space that a scan lacks in the plane, 0 to 0.9."),
    ] = 0.0,
    tissues: Annotated[
        str,
        typer.Option(
            "--tissues",
            metavar="SOURCE",
            help="Label values such as csf=4+24,gm=3+42,wm=2+41; freesurfer: label maps in FreeSurfer's numbers; "
            "gmm: no label maps, three Gaussians in the brain.",
        ),
    ] = "csf=1,gm=2,wm=3",
    tissue_smoothing: Annotated[
        float, typer.Option("--tissue-smoothing", help="Sigma in voxels that softens the label maps; 0 is none.")
    ] = 0.0,
    grey: Annotated[
        Literal["mixed", "labels"],
        typer.Option("--grey", help="mixed: deep grey as bright as white scales with it; labels: as SIQT."),
    ] = "mixed",
    masks: Annotated[
        Path | None, typer.Option("--masks", metavar="FOLDER", help="Brain masks for gmm. Default: nonzero voxels.")
    ] = None,
    brightness: Annotated[
        str | None,
        typer.Option("--brightness", metavar="ORDER", help="Tissues for gmm, darkest first. Default: csf,gm,wm."),
    ] = None,
    targets: Annotated[
        Path | None, typer.Option("--targets", metavar="FOLDER", help="Also write the matching high-field images.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same images.")] = 0,
) -> None:
    """Simulate low-field scans from high-field scans and their tissue maps."""
    from rich.console import Console

    from nnunet_uhf.preprocessing.low_field import Artefacts, LowFieldSimulator, choose_profile, find_preset
    from nnunet_uhf.preprocessing.low_field.folder import simulate_folder

    chosen = find_preset(preset)
    simulator = LowFieldSimulator(
        snr=chosen.snr,
        profiles=(choose_profile(ratio, thickness=thickness, gap=gap),),
        fixed=fixed,
        noise=noise,
        noise_scale=(noise_scale, noise_scale),
        noise_mask=noise_mask,
        grid=mode,
        reject_outliers=reject_outliers,
        artefacts=Artefacts(
            bias_field=bias_field, motion_probability=motion, spike_probability=spikes, kspace_crop=kspace_crop
        ),
    )
    source = _tissue_source(
        tissues, brightness, folder=labels, smoothing=tissue_smoothing, masks=masks, seed=seed, grey=grey
    )
    record = simulate_folder(
        images,
        output,
        simulator,
        source,
        preset=chosen,
        axis=axis,
        targets=targets,
        seed=seed,
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {record}\n")


def _tissue_source(tissues: str, brightness: str | None, **options: Any) -> TissueSource:
    """What --tissues and --brightness say, with the other options as they are."""
    from nnunet_uhf.preprocessing.low_field import parse_tissue_labels
    from nnunet_uhf.preprocessing.low_field.mixture import T1W_BRIGHTNESS, parse_brightness
    from nnunet_uhf.preprocessing.low_field.tissue_source import TissueSource

    if tissues == "gmm":
        order = T1W_BRIGHTNESS if brightness is None else parse_brightness(brightness)
        return TissueSource(kind="gmm", brightness=order, **options)
    if brightness is not None:
        raise UHFError("--brightness is used with --tissues gmm only: leave it out")
    if tissues == "freesurfer":
        return TissueSource(kind="freesurfer", **options)
    return TissueSource(numbers=parse_tissue_labels(tissues), **options)


# TR, TE, flip angle and TI of each sequence where the user names none (ours: T1w, T2w, T1w)
DEFAULTS: dict[str, dict[str, Any]] = {
    "spgr": {"tr_ms": 20.0, "te_ms": 4.0, "flip_angle_deg": 30.0},
    "se": {"tr_ms": 5000.0, "te_ms": 90.0},
    "ir": {"tr_ms": 2500.0, "te_ms": 4.0, "ti_ms": 1100.0},
}


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
    from nnunet_uhf.preprocessing.synthesis.folder import SynthesisOptions, synthesise_folder

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
