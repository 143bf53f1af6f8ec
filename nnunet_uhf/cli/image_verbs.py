"""Verbs about images: simulate, enhance, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nnunet_uhf.cli.arguments import Device, InputFolder, OutputFolder, fold_number, torch_device
from nnunet_uhf.errors import UHFError


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    for name, verb, example in (
        ("simulate", simulate, "simulate -i IMAGES --labels TISSUES -o LOW_FIELD --preset flair_0.36T --ratio 4"),
        ("enhance", enhance, "enhance -i IMAGES -o ENHANCED -m keeper.safetensors"),
        ("demo", demo, "demo --out demo -device cpu"),
    ):
        app.command(name, epilog=f"Example: nnunet-uhf {example}")(verb)


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

    from nnunet_uhf.preprocessing.low_field import Artefacts, parse_brightness, parse_tissue_labels
    from nnunet_uhf.preprocessing.simulate import simulate_folder

    if brightness is not None and tissues != "gmm":
        raise UHFError("--brightness is used with --tissues gmm only: leave it out")
    kind: dict[str, Any] = {"tissues": tissues}
    if tissues not in ("freesurfer", "gmm"):
        kind = {"tissue_labels": parse_tissue_labels(tissues)}
    elif brightness is not None:
        kind["brightness"] = parse_brightness(brightness)
    record = simulate_folder(
        images,
        output,
        labels=labels,
        preset=preset,
        ratio=ratio,
        thickness=thickness,
        gap=gap,
        axis=axis,
        mode=mode,
        noise=noise,
        noise_scale=noise_scale,
        noise_mask=noise_mask,
        fixed=fixed,
        reject_outliers=reject_outliers,
        artefacts=Artefacts(bias_field=bias_field, motion_probability=motion, spike_probability=spikes),
        tissue_smoothing=tissue_smoothing,
        masks=masks,
        targets=targets,
        seed=seed,
        console=Console(stderr=True),
        **kind,
    )
    sys.stdout.write(f"wrote {record}\n")


def enhance(
    images: Annotated[Path, typer.Option("-i", metavar="FOLDER", help="Folder of NIfTI images, or one image.")],
    output: OutputFolder,
    model: Annotated[
        Path, typer.Option("-m", metavar="KEEPER_OR_MODEL", help="Keeper file with decoder, or keeper model folder.")
    ],
    device: Device = "cuda",
    folds: Annotated[
        list[str] | None,
        typer.Option("-f", metavar="FOLD...", help="Folds of a model folder, averaged. Default: all."),
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option(
            "--axis",
            help="Plane of thick slices (axial, coronal, sagittal) or their array axis 0, 1, 2. Default: as trained.",
        ),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write NAME_uncertainty, of a Masksembles model.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write anew what is already there.")] = False,
) -> None:
    """Write the high-field-like image of every scan, in the scan's own geometry; more slices from thick ones."""
    from rich.console import Console

    from nnunet_uhf.enhance import enhance as run

    written = run(
        images,
        output,
        model,
        device=torch_device(device),
        folds=[fold_number(fold) for fold in folds] if folds else None,
        overwrite=overwrite,
        axis=axis,
        uncertainty=uncertainty,
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {len(written)} images to {output}\n")


def demo(
    output: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder to work in.")] = Path(
        "nnunet-uhf-demo"
    ),
    device: Device = "cpu",
) -> None:
    """Show the whole chain on made subjects, without downloads: less than half an hour on two CPU cores."""
    from rich.console import Console

    from nnunet_uhf.demo import run

    run(out=output, device=torch_device(device).type, console=Console())
