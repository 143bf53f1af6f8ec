"""Verbs about images that networks make: enhance, evaluate-images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from nnunet_uhf.cli.arguments import Dataset, Device, OutputFolder, add_verbs, fold_number, torch_device
from nnunet_uhf.errors import Odd, UHFError


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    add_verbs(
        app,
        ("enhance", enhance, "enhance -i IMAGES -o ENHANCED -m keeper.safetensors"),
        (
            "pseudo-pairs",
            pseudo_pairs,
            "pseudo-pairs -d 102 -m RESULTS/PTATrainer__nnUNetPlans__2d -o $nnUNet_raw/Dataset103_PseudoPairs",
        ),
        ("evaluate-images", evaluate_images, "evaluate-images -ref HIGH_FIELD -pred ENHANCED -mask BRAIN_MASKS -o OUT"),
        group="Images that networks make",
    )


def pseudo_pairs(
    dataset: Dataset,
    output: OutputFolder,
    model: Annotated[
        Path,
        typer.Option("-m", metavar="MODEL", help="Model folder of PTATrainer or a variant, or a Uni-COAL model."),
    ],
    direction: Annotated[
        str,
        typer.Option(
            "--from",
            help="target: true high-field scans with made low-field ones. source: true low-field scans with made "
            "high-field images, which may show what is not there. Of a Uni-COAL model: the channel that is true.",
        ),
    ] = "target",
    to: Annotated[
        str | None, typer.Option("--to", metavar="MODALITY", help="What a Uni-COAL model shall make of it.")
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option(
            "--axis", help="Plane of the slices that a Uni-COAL model makes, or their array axis. Default: as trained."
        ),
    ] = None,
    noise: Annotated[
        float, typer.Option("--noise", help="On made low-field scans, of the standard deviation of a scan.")
    ] = 0.05,
    folds: Annotated[
        list[str] | None, typer.Option("-f", metavar="FOLD...", help="Folds of the model, averaged. Default: all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise.")] = 0,
    device: Device = "cuda",
) -> None:
    """Pairs for a keeper where there are none: a model of two domains makes one half of each."""
    from rich.console import Console

    from nnunet_uhf.nnunet.files import dataset_name, root_folder
    from nnunet_uhf.preprocessing.pairing.modality_pairs import modality_pairs
    from nnunet_uhf.preprocessing.pairing.pseudo_pairs import pseudo_pairs as run

    if to is not None:
        sys.stderr.write("warning: whatever learns from these pairs learns what a model invents, too\n")
        made = modality_pairs(
            root_folder("nnUNet_raw") / dataset_name(dataset),
            output,
            model,
            source=direction,
            target=to,
            axis=axis,
            folds=[fold_number(fold) for fold in folds] if folds else None,
            device=torch_device(device),
            console=Console(stderr=True),
        )
        sys.stdout.write(f"wrote {made}\n")
        return
    if direction not in ("target", "source"):
        raise UHFError(f"--from {direction}: say target or source, or with --to what a Uni-COAL model shall make of it")
    if direction == "source":
        sys.stderr.write("warning: a teacher will learn from made high-field images, invented detail included\n")
    written = run(
        root_folder("nnUNet_raw") / dataset_name(dataset),
        output,
        model,
        direction=cast(Literal["target", "source"], direction),
        folds=[fold_number(fold) for fold in folds] if folds else None,
        noise=noise,
        seed=seed,
        device=torch_device(device),
        console=Console(stderr=True),
    )
    sys.stdout.write(f"wrote {written}\n")


def evaluate_images(
    reference: Annotated[Path, typer.Option("-ref", metavar="FOLDER", help="Folder of the true images.")],
    prediction: Annotated[
        Path, typer.Option("-pred", metavar="FOLDER", help="Folder of the predicted images, of the same names.")
    ],
    output: OutputFolder,
    mask: Annotated[
        Path | None,
        typer.Option(
            "-mask",
            metavar="FOLDER",
            help="Brain masks or label maps; above 0 is inside. Without: the whole image alone.",
        ),
    ] = None,
    linear_fit: Annotated[
        bool,
        typer.Option("--linear-fit", help="Fit each prediction's intensities to the reference by a straight line."),
    ] = False,
    data_range: Annotated[
        float | None,
        typer.Option("--data-range", help="Peak of PSNR and SSIM. Without: max - min of each reference."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap over cases.")] = 0,
    unpaired: Annotated[
        bool,
        typer.Option("--unpaired", help="-ref are real images of other subjects: compare the sets, not the cases."),
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("-input", metavar="FOLDER", help="What the images were made of, of the same names (--unpaired)."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="NETWORK",
            help="Describes slices for distances of the sets (--unpaired): imagenet (extra [fd]), a keeper file, a "
            "model folder of a 2d nnU-Net, or NAME=WEIGHTS.safetensors of timm.",
        ),
    ] = None,
    plane: Annotated[
        str, typer.Option("--plane", help="Of the slices (--unpaired): axial, coronal, sagittal.")
    ] = "axial",
    device: Device = "cpu",
) -> None:
    """Measure predicted images against true ones: PSNR, SSIM, MS-SSIM, NRMSE, MAE, with confidence intervals.

    With --unpaired against real images of other subjects: how alike the two sets look, and what is kept of the input.
    """
    from rich.console import Console

    from nnunet_uhf.evaluation.image_record import metrics_table
    from nnunet_uhf.evaluation.images import evaluate_images as run

    odd = Odd()
    if unpaired:
        if linear_fit or data_range is not None:
            raise UHFError("--linear-fit and --data-range need a truth, which --unpaired has not: leave them away")
        _evaluate_unpaired(reference, prediction, output, source, mask, features, plane, device, odd)
        return
    if source is not None or features is not None:
        raise UHFError("-input and --features are of --unpaired: add it, or leave them away")
    record = run(
        reference,
        prediction,
        output,
        mask=mask,
        linear_fit=linear_fit,
        data_range=data_range,
        seed=seed,
        console=Console(stderr=True),
        odd=odd,
    )
    Console().print(metrics_table(record))
    sys.stdout.write(f"wrote {output}\n")
    odd.tell()


def _evaluate_unpaired(
    reference: Path,
    prediction: Path,
    output: Path,
    source: Path | None,
    mask: Path | None,
    features: str | None,
    plane: str,
    device: str | None,
    odd: Odd,
) -> None:
    from rich.console import Console

    from nnunet_uhf.evaluation.feature_network import feature_network
    from nnunet_uhf.evaluation.unpaired_images import evaluate_unpaired, sets_table

    record = evaluate_unpaired(
        reference,
        prediction,
        output,
        source=source,
        mask=mask,
        features=None if features is None else feature_network(features, device=torch_device(device)),
        plane=plane,
        console=Console(stderr=True),
        odd=odd,
    )
    Console().print(sets_table(record))
    sys.stdout.write(f"wrote {output}\n")
    odd.tell()


def enhance(
    images: Annotated[Path, typer.Option("-i", metavar="FOLDER", help="Folder of NIfTI images, or one image.")],
    output: OutputFolder,
    model: Annotated[
        list[Path],
        typer.Option(
            "-m",
            metavar="KEEPER_OR_MODEL...",
            help="Keeper file with decoder, builtin, or model folder. Of several Uni-COAL models, or models of several "
            "planes: the mean.",
        ),
    ],
    device: Device = None,
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
    to: Annotated[
        str | None, typer.Option("--to", metavar="MODALITY", help="What a Uni-COAL model shall make.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="MODALITY...", help="What the scans are, for a Uni-COAL model of several."),
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(
            "--spacing", metavar="MM", help="Slice distance of what a Uni-COAL model makes. Default: the scan's."
        ),
    ] = None,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Also write NAME_uncertainty, of a Masksembles model or of several planes."),
    ] = False,
    changes: Annotated[
        bool,
        typer.Option("--changes", help="Also write NAME_changes: what is more than a change of brightness."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write anew what is already there.")] = False,
) -> None:
    """Write the high-field-like image of every scan, in the scan's own geometry; more slices from thick ones.

    A Uni-COAL model makes one modality of another (--to, --from), at any distance of slices (--spacing).
    """
    from rich.console import Console

    from nnunet_uhf.inference.enhance import enhance as run
    from nnunet_uhf.inference.modality_enhance import enhance_modality
    from nnunet_uhf.planes.images import enhance_planes

    chosen = [fold_number(fold) for fold in folds] if folds else None
    console = Console(stderr=True)
    if to is not None or source is not None or spacing is not None:
        if uncertainty:
            raise UHFError("--uncertainty is for Masksembles models, --to, --from and --spacing for Uni-COAL models")
        if changes:
            raise UHFError(
                "--changes compares an image with its scan, and another modality or other slices are changed all over: "
                "leave it away with --to, --from and --spacing"
            )
        written = enhance_modality(
            images,
            output,
            model,
            to=to,
            source=source,
            spacing=spacing,
            axis=axis,
            device=torch_device(device),
            folds=chosen,
            overwrite=overwrite,
            console=console,
        )
    elif len(model) > 1:
        if axis is not None:
            raise UHFError("--axis is for one model, not for several planes: give one (-m), or leave it away")
        written = enhance_planes(
            images,
            output,
            model,
            device=torch_device(device),
            folds=chosen,
            overwrite=overwrite,
            spread=uncertainty,
            changes=changes,
            console=console,
        )
    else:
        written = run(
            images,
            output,
            model[0],
            device=torch_device(device),
            folds=chosen,
            overwrite=overwrite,
            axis=axis,
            uncertainty=uncertainty,
            changes=changes,
            console=console,
        )
    sys.stdout.write(f"wrote {len(written)} images to {output}\n")
