"""PTA on real scans of 3 T and made low-field ones of other subjects, against what intensities alone can do.

Half of the subjects are the high field; of the other half only a made low-field scan is kept: an inverted contrast
with noise, whose map is known, or a simulated 0.36 T. Subjects that nothing learns from have both, as truth. Scans are
brought to 3.3 mm, and the networks are small: what two CPU cores can do. A stopped run goes on where it was; a run with
another trainer in the same folder takes over what both share.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import nibabel as nib
import numpy as np
import typer
from commands import environment
from jobs import Data, Device, Out, Places, going_on, run_job
from rich.console import Console
from rich.table import Table
from scipy.ndimage import zoom

from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.nnunet.model_folder import FoldFolder
from nnunet_uhf.stages import Stage

DATASET = "Dataset112_IXIDomains"
CONFIGURATION = "2d"
PLANS = "nnUNetPlans"
PRESET = "t1w_0.36T_probable"
PATCH, BATCH = [80, 64], 4
SCALE = 0.6
"""Of the 2 mm grid: 3.3 mm."""
NOISE = 0.05
"""Of the inverted scans, of the brightest value."""
ARCHITECTURE = {
    "features": 8,
    "blocks": 3,
    "judge_features": 16,
    "widths": [8, 16, 32, 64, 64],
    "encoder": {"width": 64, "depth": 3, "heads": 4, "embedding": 64, "side": 64},
}
PRETEXTS = {"SGPTrainer": "slice-gap perception", "LSCTrainer": "local structure"}
ALONE = "CUTTrainer"
"""Needs no pretext network."""
ROWS = {"input": "input", "matched": "histogram-matched input", "prediction": "PTA"}
METRICS = (("mae_brain", 3), ("psnr_brain", 2), ("ssim_brain", 3))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


class Contrast(StrEnum):
    """How low-field scans are made."""

    INVERTED = "inverted"
    SIMULATED = "simulated"


@dataclass(frozen=True)
class Job:
    """Numbers that decide what is computed."""

    contrast: str = Contrast.INVERTED
    epochs: int = 1
    low_field_subjects: int = 14
    high_field_subjects: int = 14
    both: int = 4

    def trainer_of(self, name: str) -> str:
        """Name of a trainer of the job's length."""
        return f"{name}_1epoch" if self.epochs == 1 else f"{name}_{self.epochs}epochs"


def fold(job: Job, places: Places, trainer: str) -> FoldFolder:
    """Results of a training."""
    return places.model(DATASET, job.trainer_of(trainer), PLANS, CONFIGURATION).fold(0)


def subjects(job: Job, places: Places) -> list[list[str]]:
    """Cases at low field, at high field, and at both."""
    return places.groups(job.low_field_subjects, job.high_field_subjects, job.both)


def shrink(job: Job, places: Places) -> None:
    """Scans and tissues at 3.3 mm, and inverted scans where these are asked for."""
    cases = [case for group in subjects(job, places) for case in group]
    for folder, order in (("images", 1), ("labels_tissue", 0)):
        target = places.out / folder
        target.mkdir(parents=True, exist_ok=True)
        for case, path in places.of(folder, cases).items():
            read = nib.load(path)
            data = zoom(np.asarray(read.dataobj, dtype=np.float32), SCALE, order=order)
            affine = read.affine @ np.diag([1 / SCALE] * 3 + [1])
            kind = np.float32 if order else np.uint8
            nib.save(nib.Nifti1Image(data.astype(kind), affine), target / f"{case}.nii.gz")
    if job.contrast == Contrast.INVERTED:
        invert(places)


def invert(places: Places) -> None:
    """Bright becomes dark within the brain, and noise is added."""
    (places.out / "low_field").mkdir(exist_ok=True)
    for number, (case, path) in enumerate(sorted(case_files(places.out / "images").items())):
        read = nib.load(path)
        data = np.asarray(read.dataobj, dtype=np.float32)
        brain, top = data > 0, np.percentile(data[data > 0], 99.9)
        noise = NOISE * top * np.random.default_rng(number).standard_normal(data.shape)
        low = np.where(brain, np.maximum(1.1 * top - np.minimum(data, top) + noise, 1), 0).astype(np.float32)
        nib.save(nib.Nifti1Image(low, read.affine), places.out / "low_field" / f"{case}.nii.gz")


def choose(job: Job, places: Places) -> None:
    """Low-field scans of one half, high-field scans of the other, both of the held-out subjects."""
    low, high, both = subjects(job, places)
    for name, source, cases in (("lf", "low_field", low), ("hf", "images", high)):
        folder = places.out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for case in (*cases, *both):
            shutil.copyfile(places.out / source / f"{case}.nii.gz", folder / f"{case}.nii.gz")


def describe(job: Job, places: Places) -> None:
    """Name the held-out pairs, and networks of a size for two cores."""
    path = places.raw(DATASET) / "dataset.json"
    description: dict[str, Any] = json.loads(path.read_text())
    both = subjects(job, places)[2]
    description["uhf"]["unpaired"]["held_out_pairs"] = {f"LF_{case}": f"HF_{case}" for case in both}
    description["uhf"]["architecture"] = ARCHITECTURE
    path.write_text(json.dumps(description, indent=4))


def change_plans(places: Places) -> None:
    """Patches and batches of a size for two cores."""
    path = places.preprocessed(DATASET) / f"{PLANS}.json"
    plans: dict[str, Any] = json.loads(path.read_text())
    plans["configurations"][CONFIGURATION].update(patch_size=PATCH, batch_size=BATCH)
    path.write_text(json.dumps(plans, indent=4))


def chain(job: Job, places: Places, trainer: str, device: str) -> list[Stage]:
    """All stages, in order."""
    dataset = DATASET[len("Dataset") :][:3]
    simulate = (
        "nnunet-uhf", "simulate", "-i", str(places.out / "images"), "-o", str(places.out / "low_field"),
        "--labels", str(places.out / "labels_tissue"), "--preset", PRESET, "--ratio", "2", "--noise-mask", "brain",
    )  # fmt: skip
    convert = (
        "nnunet-uhf", "convert", "unpaired", "--lf", str(places.out / "lf"), "--hf", str(places.out / "hf"),
        "-o", str(places.raw(DATASET)), "--field-lf", "0.36", "--field-hf", "3",
    )  # fmt: skip
    plan = ("nnUNetv2_plan_and_preprocess", "-d", dataset, "-c", CONFIGURATION, "-npfp", "2", "-np", "2")

    def train(name: str) -> tuple[str, ...]:
        return (
            "nnUNetv2_train", dataset, CONFIGURATION, "0", "-tr", job.trainer_of(name), "-device", device,
            *going_on(fold(job, places, name)),
        )  # fmt: skip

    pretexts = {} if trainer == ALONE else PRETEXTS
    stages = [Stage("scans", "scans at 3.3 mm", function=lambda: shrink(job, places))]
    if job.contrast == Contrast.SIMULATED:
        stages.append(Stage("simulate", "simulated low field", simulate))
    return [
        *stages,
        Stage("choose", "two domains", function=lambda: choose(job, places)),
        Stage("convert", "raw dataset", convert),
        Stage("describe", "held-out pairs", function=lambda: describe(job, places)),
        Stage("plan", "plan and preprocess", plan),
        Stage("plans", "small patches", function=lambda: change_plans(places)),
        *(Stage(name, title, train(name), epochs=job.epochs) for name, title in pretexts.items()),
        Stage(trainer, trainer, train(trainer), epochs=job.epochs),
    ]


def tables(job: Job, places: Places, trainer: str) -> dict[str, Any]:
    """Print what was measured of the held-out subjects; return it."""
    summary = json.loads(fold(job, places, trainer).summary.read_text())
    rows = [row for row in summary["metric_per_case"] if "prediction" in row]
    shown = Table(title=f"{trainer}, {job.contrast}: {len(rows)} held-out subjects, brain")
    for heading in ("", "MAE [SD]", "PSNR dB", "SSIM"):
        shown.add_column(heading)
    for name, title in ROWS.items():
        cells = []
        for key, digits in METRICS:
            values = [row[name][key] for row in rows]
            cells.append(f"{np.mean(values):.{digits}f} ({np.std(values, ddof=1):.{digits}f})")
        shown.add_row(title, *cells)
    console.print(shown)
    summaries = {name: fold(job, places, name).summary for name in PRETEXTS}
    pretexts = {name: json.loads(path.read_text())["mean"] for name, path in summaries.items() if path.is_file()}
    console.print(pretexts, summary["mean"]["translation"], summary["mean"]["high_field"])
    return {"translation": summary["mean"], "pretexts": pretexts}


@app.command()
def main(
    data: Data,
    out: Out,
    contrast: Annotated[Contrast, typer.Option(help="How low-field scans are made.")] = Contrast.INVERTED,
    trainer: Annotated[str, typer.Option(help="PTATrainer or a variant.")] = "PTATrainer",
    epochs: Annotated[int, typer.Option(help="Of 250 iterations, of all trainings.")] = 1,
    device: Device = "cpu",
) -> None:
    """Train on two domains, and print how near the held-out subjects come to their truth.

    Example: python benchmarks/pta.py --data ../shared/data/ixi_hh_2mm --out pta
    """
    job, places = Job(contrast=contrast, epochs=epochs), Places(data.resolve(), out.resolve())
    run_job(
        chain(job, places, trainer, device),
        places,
        settings=asdict(job),
        environment=environment(places.out),
        console=console,
        results=lambda: tables(job, places, trainer),
    )


if __name__ == "__main__":
    app()
