"""SIQT on real scans: thick slices of simulated 0.36 T in, isotropic 3 T-like images out, against cubic interpolation.

The network trains on patches whose low-field partners are simulated while training; every subject that is measured is
held out. Two tables: nnU-Net's held-out fold (normalised intensities, from summary.json), and further subjects that go
through the commands as a user's scans would: thick-slice NIfTI files in, `nnunet-uhf enhance`, NIfTI files out. A
stopped run goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import Any

import nibabel as nib
import numpy as np
import typer
from commands import environment
from jobs import LABELS, Data, Device, Out, Places, going_on, run_job
from rich.console import Console
from rich.table import Table

from nnunet_uhf.evaluation.image_metrics import fitted_quality
from nnunet_uhf.imageio.planes import slice_axis
from nnunet_uhf.nnunet.model_folder import FoldFolder
from nnunet_uhf.preprocessing.datasets.write import write_segmentation_dataset
from nnunet_uhf.preprocessing.low_field.slice_profile import fill_slices
from nnunet_uhf.stages import Stage

DATASET = "Dataset111_IXIHighField"
PLANS = "nnUNetPlans_short"
CONFIGURATION = "3d_fullres"
PRESET = "t1w_0.36T_probable"
PATCH = [32, 32, 32]  # the paper's
METRICS = (("psnr", 2), ("ssim", 3), ("psnr_brain", 2), ("ssim_brain", 3))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


@dataclass(frozen=True)
class Job:
    """Numbers that decide what is computed."""

    training_subjects: int = 60
    held_out_subjects: int = 12
    file_subjects: int = 8
    ratio: int = 4
    batch: int = 8
    epochs: int = 16

    @property
    def trainer(self) -> str:
        """Name of the trainer."""
        return f"SIQTTrainer_{self.epochs}epochs"


def fold(job: Job, places: Places) -> FoldFolder:
    """Results of the training."""
    return places.model(DATASET, job.trainer, PLANS, CONFIGURATION).fold(0)


def subjects(job: Job, places: Places) -> list[list[str]]:
    """Cases for training, for the held-out fold and for the files, in the order of their names."""
    return places.groups(job.training_subjects, job.held_out_subjects, job.file_subjects)


def write_dataset(job: Job, places: Places) -> None:
    """High-field images and their tissues; dataset.json says how thick slices are simulated."""
    training, held_out, _ = subjects(job, places)
    images = places.of("images", training + held_out)
    # all scans have the same axes; nnU-Net's arrays have them in reverse
    axial = 2 - slice_axis(nib.load(next(iter(images.values()))).affine, "axial")
    simulate = {
        "preset": PRESET,
        "source": "T1w",
        "mode": "native",
        "ratios": [job.ratio],
        "axes": [axial],
        "noise_mask": "brain",
    }
    folder = places.raw(DATASET)
    shutil.rmtree(folder, ignore_errors=True)
    write_segmentation_dataset(
        folder,
        channels={"T1w_3T": images},
        labels=places.of("labels_tissue", training + held_out),
        label_names=LABELS,
        uhf={"target": "T1w_3T", "target_field_T": 3.0, "simulate": simulate},
    )


def write_short_plans(job: Job, places: Places) -> None:
    """The paper's patches in plans of their own, and one fold that holds out the subjects in question."""
    folder = places.preprocessed(DATASET)
    plans: dict[str, Any] = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["configurations"][CONFIGURATION].update(patch_size=PATCH, batch_size=job.batch)
    plans["plans_name"] = PLANS
    (folder / f"{PLANS}.json").write_text(json.dumps(plans, indent=4))
    training, held_out, _ = subjects(job, places)
    splits = [{"train": training, "val": held_out}]
    (folder / "splits_final.json").write_text(json.dumps(splits, indent=4))


def chain(job: Job, places: Places, device: str) -> list[Stage]:
    """All stages, in order."""
    high_field = places.out / "high_field"
    files = subjects(job, places)[2]
    dataset = DATASET[len("Dataset") :][:3]

    def choose() -> None:
        high_field.mkdir(exist_ok=True)
        for path in places.of("images", files).values():
            shutil.copyfile(path, high_field / path.name)

    keeper = str(places.keeper("siqt"))
    model = ("-d", dataset, "-c", CONFIGURATION, "-f", "0", "-p", PLANS, "-tr", job.trainer)
    train = (
        "nnUNetv2_train", dataset, CONFIGURATION, "0", "-tr", job.trainer, "-p", PLANS, "-device", device,
        *going_on(fold(job, places)),
    )  # fmt: skip
    plan = (
        "nnUNetv2_plan_and_preprocess", "-d", dataset, "-c", CONFIGURATION, "-npfp", "2", "-np", "2",
        "--verify_dataset_integrity",
    )  # fmt: skip
    simulate = (
        "nnunet-uhf", "simulate", "-i", str(high_field), "-o", str(places.out / "thick_slices"),
        "--labels", str(places.data / "labels_tissue"), "--preset", PRESET, "--ratio", str(job.ratio),
        "--mode", "native", "--axis", "axial", "--noise-mask", "brain", "--targets", str(places.out / "targets"),
        "--seed", "0",
    )  # fmt: skip
    export = ("nnunet-uhf", "export-keeper", *model, "-o", keeper, "--overwrite")
    enhance = (
        "nnunet-uhf", "enhance", "-i", str(places.out / "thick_slices"), "-o", str(places.out / "enhanced"),
        "-m", keeper, "-device", device,
    )  # fmt: skip
    return [
        Stage("dataset", "raw dataset", function=lambda: write_dataset(job, places)),
        Stage("plan", "plan and preprocess", plan),
        Stage("plans", "short plans", function=lambda: write_short_plans(job, places)),
        Stage("train", "train and validate", train, epochs=job.epochs),
        Stage("export", "export", export),
        Stage("choose", "subjects of the files", function=choose),
        Stage("simulate", "thick slices as files", simulate),
        Stage("enhance", "enhance the files", enhance),
    ]


def of_the_fold(job: Job, places: Places) -> list[dict[str, Any]]:
    """Quality of prediction and cubic interpolation of every held-out subject, both fitted, from the validation."""
    rows = json.loads(fold(job, places).summary.read_text())["metric_per_case"]
    return [{"case": row["case"], "siqt": row["prediction_fitted"], "cubic": row["input"]} for row in rows]


def of_the_files(job: Job, places: Places) -> list[dict[str, Any]]:
    """The same of the enhanced files, both after their best linear fit to the high-field image."""
    rows = []
    for case in subjects(job, places)[2]:
        name = f"{case}.nii.gz"
        scan, enhanced = (nib.load(places.out / folder / name) for folder in ("thick_slices", "enhanced"))
        target = nib.load(places.out / "targets" / name)
        if enhanced.shape != target.shape or not np.allclose(enhanced.affine, target.affine, atol=1e-4):
            raise RuntimeError(f"{places.out / 'enhanced' / name} has not the geometry of its target")
        truth, image = (np.asarray(file.dataobj, dtype=np.float32) for file in (target, enhanced))
        axis = slice_axis(scan.affine, "axial")
        cubic = fill_slices(np.asarray(scan.dataobj, np.float32), ratio=job.ratio, size=truth.shape[axis], axis=axis)
        siqt, baseline = (fitted_quality(truth, one, truth > 0) for one in (image, cubic))
        rows.append({"case": case, "siqt": siqt, "cubic": baseline})
    return rows


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Mean (standard deviation over subjects) of both, and of their difference within subjects with its range."""
    shown = Table(title=f"{title}: {len(rows)} subjects")
    for heading in ("", "PSNR dB", "SSIM", "PSNR dB (brain)", "SSIM (brain)"):
        shown.add_column(heading)
    for name in ("cubic", "siqt"):
        values = {key: [row[name][key] for row in rows] for key, _ in METRICS}
        shown.add_row(name, *(f"{np.mean(values[k]):.{d}f} ({np.std(values[k], ddof=1):.{d}f})" for k, d in METRICS))
    cells = []
    for key, digits in METRICS:
        gains = [row["siqt"][key] - row["cubic"][key] for row in rows]
        cells.append(f"{np.mean(gains):+.{digits}f} ({min(gains):+.{digits}f} to {max(gains):+.{digits}f})")
    shown.add_row("gain", *cells)
    return shown


def tables(job: Job, places: Places) -> dict[str, Any]:
    """Print what was measured; return it."""
    results = {"fold": of_the_fold(job, places), "files": of_the_files(job, places)}
    console.print(table("Held-out fold", results["fold"]), table("Enhanced files", results["files"]))
    return results


@app.command()
def main(
    data: Data,
    out: Out,
    device: Device = "cpu",
) -> None:
    """Train, measure, and print the tables.

    Example: python benchmarks/siqt.py --data ../shared/data/ixi_hh_2mm --out siqt
    """
    job, places = Job(), Places(data.resolve(), out.resolve())
    run_job(
        chain(job, places, device),
        places,
        settings=asdict(job),
        environment=environment(places.out),
        console=console,
        results=lambda: tables(job, places),
    )


if __name__ == "__main__":
    app()
