"""Verbs about keepers: pretrain, export-keeper, import-reference, inspect, verify, check-input, plan, init."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from nnunet_uhf.cli.arguments import (
    Configuration,
    Dataset,
    Device,
    Fold,
    Plans,
    add_verbs,
    fold_number,
    require_folders,
    torch_device,
)
from nnunet_uhf.errors import Odd, UHFError

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
Keeper = Annotated[Path, typer.Option("--keeper", metavar="FILE", help="Keeper file.")]


def add_to(app: typer.Typer) -> None:
    """Give `app` the verbs of this module."""
    add_verbs(
        app,
        ("pretrain", pretrain, "pretrain -d 1 -c 3d_fullres -f 0 -o keeper.safetensors"),
        ("export-keeper", export_keeper, "export-keeper -d 1 -c 3d_fullres -f 0 -o keeper.safetensors"),
        (
            "import-reference",
            import_reference,
            "import-reference --weights knowledge_keeper.pth --decoder teacher_decoder.pth -o keeper.safetensors",
        ),
        ("inspect", inspect, "inspect keeper.safetensors (or builtin)"),
        ("verify", verify, "verify nnUNet_results/DATASET/UHFTrainer__nnUNetPlans__3d_fullres"),
        ("check-input", check_input, "check-input -i IMAGES -m keeper.safetensors"),
        ("plan", plan, "plan -d 2 -c 2d 3d_fullres --keeper keeper_2d.safetensors keeper_3d.safetensors"),
        ("init", init, "init -m MODEL_FOLDER -f 0 --keeper keeper.safetensors -o init.pth"),
        group="Keepers and guided networks",
    )


def pretrain(
    dataset: Dataset,
    configuration: Configuration,
    fold: Fold,
    plans: Plans = "nnUNetPlans",
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="FILE", help="Keeper file to write. Default: in the keeper's fold folder."),
    ] = None,
    device: Device = None,
    epochs: Annotated[
        str, typer.Option("--epochs", metavar="N", help="Length of both trainings, 1 to 9999. Default: 250.")
    ] = "",
    accept_worse: Annotated[
        bool,
        typer.Option("--accept-worse", help="Go on with a teacher or keeper worse than its input, to try the chain."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a teacher and a keeper on an enhancement dataset and export the keeper; resumes where it stopped."""
    number = fold_number(fold)
    require_folders("nnUNet_preprocessed", "nnUNet_results")
    used = torch_device(device)
    from nnunet_uhf.trainers.distillation.pretrain import pretrain as run

    path = run(
        dataset,
        configuration,
        number,
        plans=plans,
        output=output,
        device=used,
        epochs=epochs,
        accept_worse=accept_worse,
        overwrite=overwrite,
    )
    _tell(path)


def export_keeper(
    dataset: Dataset,
    configuration: Configuration,
    fold: Fold,
    output: Annotated[Path, typer.Option("-o", metavar="FILE", help="Keeper file to write (*.safetensors).")],
    plans: Plans = "nnUNetPlans",
    trainer: Annotated[str, typer.Option("-tr", metavar="TRAINER", help="Keeper trainer.")] = "UHFKeeperTrainer",
    decoder: Annotated[
        bool, typer.Option("--decoder/--no-decoder", help="Put in the teacher's decoder, which enhance needs.")
    ] = True,
    statistics: Annotated[
        bool,
        typer.Option("--statistics/--no-statistics", help="Put in statistics of its features, for check-input."),
    ] = True,
    accept_worse: Annotated[
        bool, typer.Option("--accept-worse", help="Export even a keeper whose images are worse than its input.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a finished keeper training as a keeper file: weights and a header that describes them."""
    number = fold_number(fold)
    require_folders("nnUNet_preprocessed", "nnUNet_results")
    from rich.console import Console

    from nnunet_uhf.trainers.export.keeper import export_keeper as run

    path = run(
        dataset,
        configuration,
        number,
        plans=plans,
        trainer=trainer,
        output=output,
        with_decoder=decoder,
        with_statistics=statistics,
        accept_worse=accept_worse,
        overwrite=overwrite,
        console=Console(stderr=True),
    )
    _tell(path)


def import_reference(
    weights: Annotated[Path, typer.Option("--weights", metavar="FILE", help="knowledge_keeper.pth, 2D or 3D.")],
    output: Annotated[Path, typer.Option("-o", metavar="FILE", help="Keeper file to write (*.safetensors).")],
    channel: Annotated[str, typer.Option("--channel", metavar="NAME", help="Contrast that the keeper reads.")],
    patch_size: Annotated[int, typer.Option("--patch-size", metavar="N", help="Voxels an axis that it saw at a time.")],
    source_field: Annotated[float, typer.Option("--field-lf", metavar="TESLA", help="Of the images it reads.")],
    target_field: Annotated[float, typer.Option("--field-hf", metavar="TESLA", help="Of its teacher's images.")],
    decoder: Annotated[
        Path | None, typer.Option("--decoder", metavar="FILE", help="teacher_decoder.pth, which enhance needs.")
    ] = None,
    spacing: Annotated[float, typer.Option("--spacing", metavar="MM", help="Voxel size of its training.")] = 1.0,
    normalisation: Annotated[
        str, typer.Option("--normalisation", metavar="SCHEME", help="nnU-Net's name of that of its training.")
    ] = "ZScoreNormalization",
    masked: Annotated[
        bool, typer.Option("--nonzero/--whole-image", help="Normalised over the voxels that are not 0, or over all.")
    ] = False,
    orientation: Annotated[
        str | None, typer.Option("--orientation", metavar="LETTERS", help="Of its training's images, such as LAS.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a keeper file of weights that the paper's own code has trained (*.pth, weights alone are opened)."""
    from nnunet_uhf.keepers.reference import import_reference as run

    path = run(
        weights,
        output,
        decoder=decoder,
        channel=channel,
        spacing_mm=spacing,
        patch_size=patch_size,
        source_field=source_field,
        target_field=target_field,
        normalisation=normalisation,
        use_mask_for_norm=masked,
        orientation=orientation,
        overwrite=overwrite,
    )
    _tell(path)


def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Keeper file, builtin, or the model folder of a guided training.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Verify a keeper file and show what it says of itself; of a guided model, how loud its guidance is."""
    from rich.console import Console

    if file.is_dir():
        import json
        from dataclasses import asdict

        from nnunet_uhf.guidance.model_table import model_facts, model_table

        facts = model_facts(file)
        if as_json:
            sys.stdout.write(json.dumps(asdict(facts), indent=2) + "\n")
        else:
            Console().print(model_table(facts))
        return

    from nnunet_uhf.keepers.file import keeper_files, read_keeper
    from nnunet_uhf.keepers.header import header_json
    from nnunet_uhf.keepers.table import header_table

    for path in keeper_files(file):  # of the package several
        header = read_keeper(path).header
        if as_json:
            sys.stdout.write(header_json(header) + "\n")
        else:
            Console().print(header_table(header, name=path.name))


def verify(
    model: Annotated[
        Path, typer.Argument(metavar="FOLDER_OR_ZIP", help="Model folder of nnU-Net, or a zip file of one.")
    ],
) -> None:
    """Look whether a model is what it says, without running anything of it; exit status 2 where it is not."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nnunet_uhf.guidance.verify import verify as run

    checks = run(model)
    table = Table("file", "found")
    for check in checks:
        table.add_row(escape(check.file), escape(f"FAULT: {check.said}" if check.fault else check.said))
    Console().print(table)
    faults = [check for check in checks if check.fault]
    for check in faults:
        sys.stderr.write(f"error: {check.file}: {' '.join(check.said.split())}\n")
    if faults:
        raise typer.Exit(2)


def plan(
    dataset: Dataset,
    configurations: Annotated[
        list[str] | None, typer.Option("-c", metavar="CONFIGURATION...", help="One or more; with --plane always 2d.")
    ] = None,
    keepers: Annotated[
        list[Path] | None,
        typer.Option("--keeper", metavar="FILE...", help="Keeper files, or builtin; may be left away with --plane."),
    ] = None,
    plans: Plans = "nnUNetPlans",
    name: Annotated[str | None, typer.Option("-o", metavar="NAME", help="Name of the new plans.")] = None,
    plane: Annotated[
        Literal["axial", "coronal", "sagittal"] | None,
        typer.Option("--plane", help="Plan 2D anew, sliced in this plane."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", metavar="PRESET", help="reference (default), efficient, light or paper; else nnUNet_UHF_PRESET."
        ),
    ] = None,
    fusion_rate: Annotated[
        float | None,
        typer.Option(
            "--fusion-rate", metavar="RATE", help="Learning rate of the fusions; default: the preset's, 0: nnU-Net's."
        ),
    ] = None,
    reserve: Annotated[
        bool,
        typer.Option("--reserve/--no-reserve", help="Shrink batch or patch so that guidance fits the planned memory."),
    ] = True,
) -> None:
    """Write plans that carry a keeper, or slice in a plane, or both, under a name of their own: for -p."""
    if preset is not None and not keepers:
        raise UHFError("--preset: says how a keeper guides; name one (--keeper), or leave the preset away")
    if fusion_rate is not None and not keepers:
        raise UHFError("--fusion-rate: says how fast the guidance learns; name a keeper (--keeper), or leave it away")
    if plane is None:
        if not configurations or not keepers:
            raise UHFError("Missing -c and --keeper, or --plane alone. See `nnunet-uhf plan --help`.")
        require_folders("nnUNet_preprocessed")
        from nnunet_uhf.guidance.plans import write_plans

        path = write_plans(
            dataset,
            configurations,
            keepers,
            source_plans=plans,
            output_name=name,
            preset=preset,
            fusion_rate=fusion_rate,
            reserve=reserve,
        )
    else:
        if configurations not in (None, ["2d"]):
            raise UHFError("-c: --plane plans the configuration 2d and no other; leave -c away")
        require_folders("nnUNet_raw", "nnUNet_preprocessed")
        from nnunet_uhf.planes.plans import write_plane_plans

        path = write_plane_plans(
            dataset,
            plane,
            keepers=keepers or (),
            source_plans=plans,
            output_name=name,
            preset=preset,
            fusion_rate=fusion_rate,
            reserve=reserve,
        )
    _tell(path)
    if keepers and reserve:
        from nnunet_uhf.guidance.reserve import reserve_notes
        from nnunet_uhf.nnunet.files import read_json

        written = read_json(path, advice="write the plans again")
        sys.stdout.writelines(f"{note}\n" for note in reserve_notes(written))
    if keepers:
        from nnunet_uhf.guidance.plans import orientation_notes

        sys.stdout.writelines(f"{note}\n" for note in orientation_notes(path))
    if plane is not None:
        sys.stdout.write(f"preprocess with: nnUNetv2_preprocess -d {dataset} -plans_name {path.stem} -c 2d\n")
    trainer = " -tr UHFTrainer" if keepers else ""
    configuration = configurations[0] if configurations else "2d"
    sys.stdout.write(f"train with: nnUNetv2_train {dataset} {configuration} 0{trainer} -p {path.stem}\n")


def init(
    model: Annotated[Path, typer.Option("-m", metavar="FOLDER", help="Model folder of a plain nnU-Net.")],
    fold: Fold,
    keeper: Keeper,
    output: Annotated[Path, typer.Option("-o", metavar="FILE", help="Checkpoint to write (*.pth).")],
    overwrite: Overwrite = False,
) -> None:
    """Turn a finished plain nnU-Net into a start for -pretrained_weights of a guided training."""
    from nnunet_uhf.trainers.guided.baseline import write_initial_checkpoint

    _tell(write_initial_checkpoint(model, fold_number(fold), keeper, output, overwrite=overwrite))


def _tell(path: Path) -> None:
    sys.stdout.write(f"wrote {path}\n")


def check_input(
    images: Annotated[Path, typer.Option("-i", metavar="FOLDER", help="Folder of NIfTI images, or one image.")],
    model: Annotated[
        Path,
        typer.Option("-m", metavar="KEEPER_OR_MODEL", help="Keeper file, builtin, or folder of a guided training."),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", metavar="FILE", help="Also write every level of every image (*.csv).")
    ] = None,
    device: Device = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit status 1 when an image is beyond what the keeper was trained on.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Say whether images are like those a keeper was trained on, by its features."""
    from rich.console import Console

    from nnunet_uhf.imageio.output import require_new
    from nnunet_uhf.inference.input_check import check_inputs, checks_table

    if output is not None:
        require_new(output, overwrite=overwrite)
    used, odd = torch_device(device), Odd()
    checks = check_inputs(images, model, output=output, device=used, console=Console(stderr=True), odd=odd)
    Console().print(checks_table(checks, odd))
    if output is not None:
        sys.stdout.write(f"wrote {output}\n")
    odd.tell()
    if strict and any(check.verdict != "within" for check in checks.values()):
        raise typer.Exit(1)
