"""Uni-COAL on real scans: slices between thick slices, and another contrast, of subjects that were held out.

Super-resolution: 3 T scans whose thick slices are made while training, against the cubic spline through them. With
`--contrasts`: scans and a second contrast of the same subjects that is SIMULATED from their tissue labels, so that
synthesis between modalities has a truth. A stopped run goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import nibabel as nib
import numpy as np
import typer
from commands import environment
from jobs import LABELS, Data, Device, Out, Places, going_on, run_job
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

from nnunet_uhf.nnunet.model_folder import FoldFolder
from nnunet_uhf.preprocessing.datasets.write import write_segmentation_dataset
from nnunet_uhf.stages import Stage

DATASET = "Dataset112_IXIModalities"
PLANES, PLANS = "nnUNetPlans_axial", "nnUNetPlans_short"
METRICS = ("psnr", "ssim", "psnr_brain", "ssim_brain")
# CSF, grey and white matter of a made T2-like contrast
SIGNAL = (220.0, 120.0, 80.0)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


@dataclass(frozen=True)
class Job:
    """Numbers that decide what is computed."""

    training_subjects: int = 24
    held_out_subjects: int = 4
    preset: str = "tiny"
    layers: int = 4
    base_channels: int = 1024
    patch: tuple[int, int] = (72, 96)
    batch: int = 2
    epochs: int = 10
    rate: float = 0.01
    ratio: tuple[float, float] = (2.0, 4.0)
    gap: tuple[float, float] = (0.25, 0.25)
    contrasts: bool = False

    @property
    def trainer(self) -> str:
        """Name of the trainer."""
        return f"UniCOALTrainerNoAdversarial_{self.epochs}epochs"


def fold(job: Job, places: Places) -> FoldFolder:
    """Results of the training."""
    return places.model(DATASET, job.trainer, PLANS, "2d").fold(0)


def write_dataset(job: Job, places: Places) -> None:
    """Scans, with `contrasts` a made contrast beside them; dataset.json says what is drawn of them."""
    cases = [case for group in places.groups(job.training_subjects, job.held_out_subjects) for case in group]
    images, labels = places.of("images", cases), places.of("labels_tissue", cases)
    channels = {"T1w": images}
    if job.contrasts:
        channels["T2like"] = {case: made_contrast(places, case, labels[case]) for case in cases}
    folder = places.raw(DATASET)
    shutil.rmtree(folder, ignore_errors=True)
    write_segmentation_dataset(
        folder,
        channels=channels,
        labels=labels,
        label_names=LABELS,
        uhf={
            "modalities": dict.fromkeys(channels, 3.0),
            "thickness": {"ratio": list(job.ratio), "gap": list(job.gap)},
            "architecture": {"preset": job.preset, "layers": job.layers, "base_channels": job.base_channels},
            "training": {"learning_rate": {"generator": job.rate}},
        },
    )


def made_contrast(places: Places, case: str, labels: Any) -> Any:
    """A file of a contrast made of a label map: SIMULATED."""
    read = nib.load(labels)
    tissues = np.asarray(read.dataobj).astype(int)
    rng = np.random.default_rng(int.from_bytes(case.encode()[:8], "big"))
    image = gaussian_filter(np.array([0.0, *SIGNAL])[tissues], 0.5) + rng.normal(0, 3, tissues.shape)
    path = places.out / "made" / f"{case}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image((np.maximum(image, 1) * (tissues > 0)).astype(np.float32), read.affine), path)
    return path


def write_short_plans(job: Job, places: Places) -> None:
    """Patches and batches in plans of their own, and one fold that holds out the subjects in question."""
    folder = places.preprocessed(DATASET)
    plans: dict[str, Any] = json.loads((folder / f"{PLANES}.json").read_text())
    plans["configurations"]["2d"].update(patch_size=list(job.patch), batch_size=job.batch)
    plans["plans_name"] = PLANS
    (folder / f"{PLANS}.json").write_text(json.dumps(plans, indent=4))
    training, held_out = places.groups(job.training_subjects, job.held_out_subjects)
    (folder / "splits_final.json").write_text(json.dumps([{"train": training, "val": held_out}], indent=4))


def chain(job: Job, places: Places, device: str) -> list[Stage]:
    """All stages, in order."""
    dataset = DATASET[len("Dataset") :][:3]
    train = (
        "nnUNetv2_train", dataset, "2d", "0", "-tr", job.trainer, "-p", PLANS, "-device", device,
        *going_on(fold(job, places)),
    )  # fmt: skip
    return [
        Stage("dataset", "raw dataset", function=lambda: write_dataset(job, places)),
        Stage("fingerprint", "fingerprint", ("nnUNetv2_extract_fingerprint", "-d", dataset, "-np", "2")),
        Stage("plan", "plan", ("nnUNetv2_plan_experiment", "-d", dataset)),
        Stage("plane", "plans for axial slices", ("nnunet-uhf", "plan", "-d", dataset, "--plane", "axial")),
        Stage("preprocess", "preprocess", ("nnUNetv2_preprocess", "-d", dataset, "-plans_name", PLANES, "-c", "2d")),
        Stage("plans", "short plans", function=lambda: write_short_plans(job, places)),
        Stage("train", "train and validate", train, epochs=job.epochs),
    ]


def tables(job: Job, places: Places) -> dict[str, Any]:
    """Print a row for every task: means (standard deviations) of input and prediction, and the gain's range."""
    rows = json.loads(fold(job, places).summary.read_text())["metric_per_case"]
    shown = Table(title=f"{len(rows)} held-out subjects")
    for heading in ("", "PSNR dB", "SSIM", "PSNR dB (brain)", "SSIM (brain)"):
        shown.add_column(heading)
    for task in rows[0]["tasks"]:
        for image in ("input", "prediction", "prediction_fitted"):
            values = {key: [row["tasks"][task][image][key] for row in rows] for key in METRICS}
            cells = [f"{np.mean(values[key]):.3f} ({np.std(values[key], ddof=1):.3f})" for key in METRICS]
            shown.add_row(f"{task} {image}", *cells)
        cells = []
        for key in METRICS:
            gains = [row["tasks"][task]["prediction_fitted"][key] - row["tasks"][task]["input"][key] for row in rows]
            cells.append(f"{np.mean(gains):+.3f} ({min(gains):+.3f} to {max(gains):+.3f})")
        shown.add_row(f"{task} gain, both fitted", *cells)
    console.print(shown)
    return {"rows": rows}


@app.command()
def main(
    data: Data,
    out: Out,
    device: Device = "cpu",
    epochs: Annotated[int, typer.Option(help="Of 250 steps.")] = 10,
    contrasts: Annotated[bool, typer.Option("--contrasts", help="With a SIMULATED second contrast.")] = False,
    training: Annotated[int, typer.Option(help="Subjects to train on.")] = 24,
    held_out: Annotated[int, typer.Option(help="Other subjects, to measure on.")] = 4,
) -> None:
    """Train, measure, and print the table.

    Example: python benchmarks/unicoal.py --data ../shared/data/ixi_hh_2mm --out unicoal
    """
    job = Job(epochs=epochs, contrasts=contrasts, training_subjects=training, held_out_subjects=held_out)
    places = Places(data.resolve(), out.resolve())
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
