"""The main job on real images: teacher, keeper, plain and guided nnU-Net in 2d and 3d_fullres, from IXI scans.

Low field is simulated from 3 T. Keeper subjects, segmentation subjects and test subjects are disjoint. The networks
are nnU-Net's, the patches small and the trainings one to three epochs long, so that two CPU cores do it in about an
hour: a check that the chain works on real anatomy, no measurement of what guidance is worth.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import commands
import nibabel as nib
import numpy as np
import typer
from jobs import LABELS, Data, Device, Out, Places, run_job
from rich.console import Console
from rich.table import Table

from nnunet_uhf.preprocessing.datasets.write import write_paired_dataset, write_segmentation_dataset
from nnunet_uhf.stages import Stage, find_command

# The same pairs twice: the 3D keeper is slimmer than the reference, or a CPU would take hours.
PAIRS = {"2d": "Dataset101_IXIPairs", "3d_fullres": "Dataset103_IXIPairsSlim"}
KEEPERS = {"2d": {"base_features": 16}, "3d_fullres": {"base_features": 8, "kernel_size": 3}}
TISSUES = "Dataset102_IXITissues"
PLANS = "nnUNetPlans_short"
CONFIGURATIONS = ("2d", "3d_fullres")
TRAINERS = {"plain": "nnUNetTrainer_short", "guided": "UHFTrainer_short"}
# batch and features per stage: what two CPU cores can train
NETWORKS: dict[str, tuple[int, list[int]]] = {
    "2d": (8, [16, 32, 64, 128, 128]),
    "3d_fullres": (1, [16, 32, 64, 128]),
}
# The pairs get patches that hold most of a brain: teacher and keeper normalise over the patch.
PATCHES = {"2d": [112, 112], "3d_fullres": [64, 80, 80]}
TISSUE_PATCHES = {"2d": [112, 112], "3d_fullres": [48, 56, 56]}
EPOCHS = {"101": 3, "102": 1, "103": 3}  # by dataset, at most: for the progress bars
SHORT_TRAINERS = Path(__file__).parent / "main_job_trainers"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


@dataclass(frozen=True)
class Job:
    """Numbers that decide what is computed."""

    keeper_subjects: int = 20
    segmentation_subjects: int = 10
    test_subjects: int = 8
    noise_scale: float = 4.0
    ratio: int = 3


@dataclass(frozen=True)
class JobPlaces(Places):
    """Folders of one run."""

    def low_field(self, case: str) -> Path:
        """Simulated low-field image of a case."""
        return self.out / "low_field" / f"{case}.nii.gz"

    def prediction(self, model: str, configuration: str) -> Path:
        """Predicted label maps; the configuration may be `ensemble`."""
        return self.out / "predictions" / f"{model}_{configuration}"

    @property
    def truth(self) -> Path:
        """Labels of the test subjects."""
        return self.raw(TISSUES) / "labelsTs"

    @property
    def test_images(self) -> Path:
        """Low-field images of the test subjects."""
        return self.raw(TISSUES) / "imagesTs"


def subjects(job: Job, places: Places) -> list[list[str]]:
    """Cases for the keeper, for the segmentation and for the test, in the order of their names."""
    return places.groups(job.keeper_subjects, job.segmentation_subjects, job.test_subjects)


def write_datasets(job: Job, places: JobPlaces) -> None:
    """Pairs for the keeper, low-field images with tissue labels for the segmentation."""
    keeper, segmentation, test = subjects(job, places)
    for dataset in (*PAIRS.values(), TISSUES):
        shutil.rmtree(places.raw(dataset), ignore_errors=True)
    for configuration, dataset in PAIRS.items():
        write_paired_dataset(
            places.raw(dataset),
            sources={case: places.low_field(case) for case in keeper},
            targets=places.of("images", keeper),
            labels=places.of("labels_tissue", keeper),
            label_names=LABELS,
            source_channel="LF",
            target_channel="HF",
            source_field_T=0.36,
            target_field_T=3.0,
            route="simulated",
            architecture=KEEPERS[configuration],
        )
    write_segmentation_dataset(
        places.raw(TISSUES),
        channels={"LF": {case: places.low_field(case) for case in segmentation}},
        labels=places.of("labels_tissue", segmentation),
        label_names=LABELS,
        test_channels={"LF": {case: places.low_field(case) for case in test}},
    )
    places.truth.mkdir()
    for path in places.of("labels_tissue", test).values():
        shutil.copyfile(path, places.truth / path.name)


def write_short_plans(places: Places) -> None:
    """Plans with patches and networks for a CPU beside nnU-Net's own; the preprocessed data stay the same."""
    for dataset in (*PAIRS.values(), TISSUES):
        folder = places.preprocessed(dataset)
        plans: dict[str, Any] = json.loads((folder / "nnUNetPlans.json").read_text())
        patches = TISSUE_PATCHES if dataset == TISSUES else PATCHES
        for name, (batch, features) in NETWORKS.items():
            configuration = plans["configurations"][name]
            dim, stages = len(patches[name]), len(features)
            configuration.update(patch_size=patches[name], batch_size=batch)
            configuration["architecture"]["arch_kwargs"].update(
                n_stages=stages,
                features_per_stage=features,
                strides=[[1] * dim, *[[2] * dim] * (stages - 1)],
                kernel_sizes=[[3] * dim] * stages,
                n_conv_per_stage=[2] * stages,
                n_conv_per_stage_decoder=[2] * (stages - 1),
            )
        plans["plans_name"] = PLANS
        (folder / f"{PLANS}.json").write_text(json.dumps(plans, indent=4))


def environment(places: Places) -> dict[str, str]:
    """Environment of the commands: the short trainers registered, the keepers at hand, plain and guided of one seed."""
    return commands.environment(
        places.out, trainers=SHORT_TRAINERS, nnUNet_UHF_KKN=str(places.out / "keepers"), nnUNet_UHF_SEED="1"
    )


def chain(job: Job, places: JobPlaces, device: str) -> list[Stage]:
    """All stages, in order."""
    cases = [case for group in subjects(job, places) for case in group]
    chosen = places.out / "high_field"

    def choose() -> None:
        chosen.mkdir(exist_ok=True)
        for case in cases:
            shutil.copyfile(places.data / "images" / f"{case}.nii.gz", chosen / f"{case}.nii.gz")

    simulate = (
        "nnunet-uhf", "simulate", "-i", str(chosen), "-o", str(places.out / "low_field"),
        "--labels", str(places.data / "labels_tissue"), "--preset", "t1w_0.36T_probable",
        "--ratio", str(job.ratio), "--noise-scale", str(job.noise_scale), "--mode", "regrid", "--seed", "0",
    )  # fmt: skip
    plan = (
        "nnUNetv2_plan_and_preprocess", "-d", "101", "102", "103", "-c", *CONFIGURATIONS, "-npfp", "2", "-np", "2", "2",
        "--verify_dataset_integrity",
    )  # fmt: skip
    stages = [
        Stage("choose", "subjects", function=choose),
        Stage("simulate", "simulated 0.36 T images", simulate),
        Stage("datasets", "raw datasets", function=lambda: write_datasets(job, places)),
        Stage("plan", "plan and preprocess", plan),
        Stage("plans", "short plans", function=lambda: write_short_plans(places)),
    ]
    for configuration in CONFIGURATIONS:
        pairs = PAIRS[configuration][len("Dataset") :][:3]
        for role in ("Teacher", "Keeper"):
            trainer = f"UHF{role}Trainer_short"
            train = ("nnUNetv2_train", pairs, configuration, "0", "-tr", trainer, "-p", PLANS, "-device", device)
            stages.append(_stage(role.lower(), configuration, train))
        keeper = str(places.keeper(configuration))
        export = (
            "nnunet-uhf", "export-keeper", "-d", pairs, "-c", configuration, "-f", "0", "-p", PLANS,
            "-tr", "UHFKeeperTrainer_short", "-o", keeper, "--overwrite",
        )  # fmt: skip
        enhance = (
            "nnunet-uhf", "enhance", "-i", str(places.test_images), "-o", str(places.out / "enhanced" / configuration),
            "-m", keeper, "-device", device,
        )  # fmt: skip
        stages += [_stage("export", configuration, export), _stage("enhance", configuration, enhance)]
    for configuration in CONFIGURATIONS:
        for model, trainer in TRAINERS.items():
            train = ("nnUNetv2_train", "102", configuration, "0", "-tr", trainer, "-p", PLANS, "-device", device)
            stages.append(_stage(f"train_{model}", configuration, train))
            predict = _predict(places, trainer, configuration, places.prediction(model, configuration), device)
            stages.append(_stage(f"predict_{model}", configuration, predict))
    for model, trainer in TRAINERS.items():
        members = [str(places.prediction(model, c)) for c in CONFIGURATIONS]
        ensemble = ("nnUNetv2_ensemble", "-i", *members, "-o", str(places.prediction(model, "ensemble")), "-np", "2")
        stages.append(_stage("ensemble", model, ensemble))
        plans = places.model(TISSUES, trainer, PLANS, "2d").plans_file
        for configuration in (*CONFIGURATIONS, "ensemble"):
            evaluate = (
                "nnUNetv2_evaluate_folder", str(places.truth), str(places.prediction(model, configuration)),
                "-djfile", str(places.raw(TISSUES) / "dataset.json"), "-pfile", str(plans), "-np", "2",
            )  # fmt: skip
            stages.append(_stage(f"evaluate_{model}", configuration, evaluate))
    stages.append(Stage("share", "export to zip, install elsewhere, predict", function=lambda: share(places, device)))
    return stages


def _stage(what: str, configuration: str, command: tuple[str, ...]) -> Stage:
    epochs = EPOCHS[command[1]] if command[0] == "nnUNetv2_train" else 0
    return Stage(f"{what}_{configuration}", f"{what.replace('_', ' ')} {configuration}", command, epochs=epochs)


def _predict(places: JobPlaces, trainer: str, configuration: str, output: Path, device: str) -> tuple[str, ...]:
    return (
        "nnUNetv2_predict", "-i", str(places.test_images), "-o", str(output), "-d", "102", "-c", configuration,
        "-f", "0", "-tr", trainer, "-p", PLANS, "--save_probabilities", "--disable_tta", "-npp", "1", "-nps", "1",
        "-device", device,
    )  # fmt: skip


def share(places: JobPlaces, device: str) -> None:
    """Export the guided 2d model, install it where no keeper is, predict: the files must be the same, byte for byte."""
    archive, elsewhere = places.out / "guided_2d.zip", places.out / "elsewhere"
    shutil.rmtree(elsewhere, ignore_errors=True)
    (elsewhere / "results").mkdir(parents=True)
    here = environment(places)
    there = {**here, "nnUNet_results": str(elsewhere / "results")}
    del there["nnUNet_UHF_KKN"]
    trainer = TRAINERS["guided"]
    export = (
        "nnUNetv2_export_model_to_zip", "-d", "102", "-c", "2d", "-f", "0", "-tr", trainer, "-p", PLANS,
        "-o", str(archive),
    )  # fmt: skip
    predicted = elsewhere / "predictions"
    predict = _predict(places, trainer, "2d", predicted, device)
    for command, variables in (
        (export, here),
        (("nnUNetv2_install_pretrained_model_from_zip", str(archive)), there),
        (predict, there),
    ):
        subprocess.run([find_command(command[0]), *command[1:]], env=variables, check=True, capture_output=True)
    for path in sorted(places.prediction("guided", "2d").glob("*.nii.gz")):
        same = filecmp.cmp(path, predicted / path.name, shallow=False) or np.array_equal(
            np.asarray(nib.load(path).dataobj), np.asarray(nib.load(predicted / path.name).dataobj)
        )
        if not same:
            raise RuntimeError(f"{predicted / path.name} differs from {path}: sharing changed the model")


def tables(places: JobPlaces) -> dict[str, Any]:
    """Print what the chain measured; return it."""
    images = Table(title="Keeper and teacher on held-out subjects, whole volume, data range of the truth")
    for heading in ("configuration", "image", "PSNR dB", "SSIM", "PSNR dB (brain)", "SSIM (brain)"):
        images.add_column(heading)
    results: dict[str, Any] = {"images": {}, "dice": {}}
    for configuration in CONFIGURATIONS:
        trained = places.model(PAIRS[configuration], "UHFKeeperTrainer_short", PLANS, configuration)
        mean = json.loads(trained.fold(0).summary.read_text())["mean"]
        results["images"][configuration] = mean
        for row in ("input", "prediction", "teacher"):
            numbers = mean[row]
            cells = [f"{numbers[key]:.{digits}f}" for key, digits in
                     (("psnr", 2), ("ssim", 3), ("psnr_brain", 2), ("ssim_brain", 3))]  # fmt: skip
            images.add_row(configuration, row, *cells)
    dice = Table(title="Dice in percent on test subjects")
    for heading in ("model", "configuration", *list(LABELS)[1:], "mean"):
        dice.add_column(heading)
    for model in TRAINERS:
        for configuration in (*CONFIGURATIONS, "ensemble"):
            summary = json.loads((places.prediction(model, configuration) / "summary.json").read_text())
            values = [100 * summary["mean"][str(label)]["Dice"] for label in list(LABELS.values())[1:]]
            results["dice"][f"{model} {configuration}"] = values
            dice.add_row(model, configuration, *(f"{v:.2f}" for v in values), f"{np.mean(values):.2f}")
    console.print(images, dice)
    return results


@app.command()
def main(
    data: Data,
    out: Out,
    device: Device = "cpu",
) -> None:
    """Run the chain and print its tables.

    Example: python benchmarks/main_job.py --data ../shared/data/ixi_hh_2mm --out main_job
    """
    job, places = Job(), JobPlaces(data.resolve(), out.resolve())
    run_job(
        chain(job, places, device),
        places,
        settings=asdict(job),
        environment=environment(places),
        console=console,
        results=lambda: tables(places),
    )


if __name__ == "__main__":
    app()
