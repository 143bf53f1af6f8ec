"""A keeper without low-field files, from IXI scans whose partners are simulated while training, and real 0.055 T scans.

2D, axial slices. The keeper is judged on held-out subjects against the low-field image after its best linear fit; with
--patients it then enhances scans it cannot know, to be looked at.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from jobs import LABELS, Data, Device, Out, Places, going_on, run_job
from main_job import environment
from rich.console import Console
from rich.table import Table

from nnunet_uhf.nnunet.model_folder import FoldFolder
from nnunet_uhf.preprocessing.datasets.write import write_segmentation_dataset
from nnunet_uhf.stages import Stage

DATASET = "Dataset104_IXIHighField"
AXIAL, SHORT = "nnUNetPlans_axial", "nnUNetPlans_axial_short"
PATCH, BATCH = [112, 80], 8
ROWS = ("input", "prediction", "prediction_fitted", "teacher")
COLUMNS = ("psnr", "ssim", "psnr_brain", "ssim_brain")
# in mm, assumed: the files hold no pixel size; the 3 T slices of the third patient have another matrix
SPACING_LF, SPACING_HF = "0.98 0.98 6", {"default": "0.45 0.45 6", "pat3": "0.72 0.72 6"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


@dataclass(frozen=True)
class Job:
    """Numbers that decide what is computed."""

    teacher_epochs: int = 6
    keeper_epochs: int = 24
    subjects: int = 60
    ratios: tuple[int, ...] = (2, 3)
    axes: tuple[int, ...] = (1, 2)
    noise_scale: tuple[float, float] = (3.0, 5.0)
    background: bool = False

    @property
    def teacher(self) -> str:
        """Name of the teacher's trainer."""
        return f"UHFTeacherTrainer_{self.teacher_epochs}epochs"

    @property
    def keeper(self) -> str:
        """Name of the keeper's trainer."""
        return f"UHFKeeperTrainer_{self.keeper_epochs}epochs"


def fold(trainer: str, places: Places) -> FoldFolder:
    """Results of a training."""
    return places.model(DATASET, trainer, SHORT, "2d").fold(0)


def write_dataset(job: Job, places: Places) -> None:
    """High-field images, tissue labels, and a dataset.json that asks for the simulation."""
    chosen, folder = places.cases[: job.subjects], places.raw(DATASET)
    write_segmentation_dataset(
        folder,
        channels={"T1w_3T": places.of("images", chosen)},
        labels=places.of("labels_tissue", chosen),
        label_names=LABELS,
    )
    description = json.loads((folder / "dataset.json").read_text())
    simulate = {**asdict(job), "preset": "t1w_0.36T_probable", "source": "T1w"}
    for name in ("subjects", "teacher_epochs", "keeper_epochs", "background"):
        del simulate[name]
    description["uhf"] = {
        "target": "T1w_3T",
        "target_field_T": 3.0,
        "simulate": simulate,
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2))


def keep_background(places: Places) -> None:
    """Let the axial plans normalise over the whole image, not the brain alone: noise stays outside of it.

    nnU-Net plans the latter for stripped scans. Low-field scans that are not stripped are normalised as a whole.
    """
    path = places.preprocessed(DATASET) / f"{AXIAL}.json"
    plans: dict[str, Any] = json.loads(path.read_text())
    plans["configurations"]["2d"]["use_mask_for_norm"] = [False]
    path.write_text(json.dumps(plans, indent=4))


def write_short_plans(places: Places) -> None:
    """The axial plans with patches for a CPU."""
    folder = places.preprocessed(DATASET)
    plans: dict[str, Any] = json.loads((folder / f"{AXIAL}.json").read_text())
    plans["configurations"]["2d"].update(patch_size=PATCH, batch_size=BATCH)
    plans["plans_name"] = SHORT
    (folder / f"{SHORT}.json").write_text(json.dumps(plans, indent=4))


def write_patient_table(patients: Path, places: Places) -> None:
    """Table of the six patients for `convert paired`."""
    lines = ["case,lf,hf,spacing_lf,spacing_hf"]
    for low in sorted(patients.glob("*_0.055T_T1w.nii.gz")):
        case = low.name.partition("_")[0]
        high = patients / f"{case}_3T_T1w.nii.gz"
        spacing = SPACING_HF.get(case, SPACING_HF["default"])
        lines.append(f"{case},{low},{high},{SPACING_LF},{spacing}")
    (places.out / "patients.csv").write_text("\n".join(lines) + "\n")


def chain(job: Job, places: Places, device: str, patients: Path | None) -> list[Stage]:
    """All stages, in order."""
    keeper = str(places.keeper("axial"))
    stages = [
        Stage("dataset", "raw dataset", function=lambda: write_dataset(job, places)),
        Stage("plan", "plan", ("nnUNetv2_plan_and_preprocess", "-d", "104", "--no_pp", "--verify_dataset_integrity")),
        Stage("axial", "axial plans", ("nnunet-uhf", "plan", "-d", "104", "--plane", "axial")),
        *([Stage("background", "keep the background", function=lambda: keep_background(places))] * job.background),
        Stage("preprocess", "preprocess", ("nnUNetv2_preprocess", "-d", "104", "-plans_name", AXIAL, "-c", "2d")),
        Stage("plans", "short plans", function=lambda: write_short_plans(places)),
    ]
    for role, trainer, epochs in (
        ("teacher", job.teacher, job.teacher_epochs),
        ("keeper", job.keeper, job.keeper_epochs),
    ):
        go_on = going_on(fold(trainer, places))
        train = ("nnUNetv2_train", "104", "2d", "0", "-tr", trainer, "-p", SHORT, "-device", device, *go_on)
        stages.append(Stage(role, role, train, epochs=epochs))
    export = (
        "nnunet-uhf", "export-keeper", "-d", "104", "-c", "2d", "-f", "0", "-p", SHORT, "-tr", job.keeper,
        "-o", keeper, "--overwrite",
    )  # fmt: skip
    stages.append(Stage("export", "keeper file", export))
    if patients is not None:
        raw = places.raw("Dataset105_Patients")
        table = places.out / "patients.csv"
        convert = (
            "nnunet-uhf", "convert", "paired", "--csv", str(table), "--slicewise", "--mask", "head", "--grid", "lf",
            "--field-lf", "0.055", "--field-hf", "3", "-o", str(raw),
        )  # fmt: skip
        enhance = (
            "nnunet-uhf", "enhance", "-i", str(places.out / "patients_lf"), "-o", str(places.out / "patients_enhanced"),
            "-m", keeper, "-device", device,
        )  # fmt: skip
        stages += [
            Stage("table", "table of patients", function=lambda: write_patient_table(patients, places)),
            Stage("convert", "register patients", convert),
            Stage("choose", "low-field scans", function=lambda: take_source(raw, places.out / "patients_lf")),
            Stage("enhance", "enhance patients", enhance),
            Stage("picture", "picture of the patients", function=lambda: draw(raw, places)),
        ]
    return stages


def take_source(raw: Path, folder: Path) -> None:
    """The source channel of a raw dataset, as a folder of its own."""
    folder.mkdir(exist_ok=True)
    for path in sorted((raw / "imagesTr").glob("*_0000.nii.gz")):
        (folder / path.name.replace("_0000", "")).write_bytes(path.read_bytes())


def draw(raw: Path, places: Places) -> None:
    """One row a patient: 0.055 T, enhanced, 3 T; the slice with the largest head."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import nibabel

    sources = sorted((places.out / "patients_lf").glob("*.nii.gz"))
    figure, axes = plt.subplots(3, len(sources), figsize=(2.1 * len(sources), 6.6), squeeze=False)
    for column, source in enumerate(sources):
        case = source.name.removesuffix(".nii.gz")
        files = (source, places.out / "patients_enhanced" / source.name, raw / "imagesTr" / f"{case}_0001.nii.gz")
        for row, (path, title) in enumerate(zip(files, ("0.055 T", "network's estimate", "3 T"), strict=True)):
            volume = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
            picture = volume[:, :, volume.shape[2] // 2].T
            low, high = np.percentile(picture, (1, 99.5))
            axes[row, column].imshow(picture, cmap="gray", vmin=low, vmax=high, origin="lower")
            axes[row, column].set_axis_off()
            axes[row, column].set_title(f"{case}, {title}" if row == 0 else title, fontsize=8)
    figure.tight_layout()
    figure.savefig(places.out / "patients.png", dpi=110)
    plt.close(figure)


def table(job: Job, places: Places) -> dict[str, Any]:
    """Print what the keeper reached on held-out subjects; return it."""
    cases = json.loads(fold(job.keeper, places).summary.read_text())["metric_per_case"]
    printed = Table(title=f"{len(cases)} held-out subjects, mean and standard deviation")
    for heading in ("image", *COLUMNS):
        printed.add_column(heading)
    results: dict[str, Any] = {}
    for row in ROWS:
        values = {name: [case[row][name] for case in cases] for name in COLUMNS}
        results[row] = values
        printed.add_row(row, *(f"{np.mean(v):.3f} ± {np.std(v, ddof=1):.3f}" for v in values.values()))
    console.print(printed)
    return results


@app.command()
def main(
    data: Data,
    out: Out,
    patients: Annotated[Path | None, typer.Option(help="Folder hku_055T_3T: enhance these scans, too.")] = None,
    teacher_epochs: Annotated[int, typer.Option(min=2, help="Of 250 iterations.")] = 6,
    keeper_epochs: Annotated[int, typer.Option(min=2, help="Of 250 iterations.")] = 24,
    ratios: Annotated[str, typer.Option(help="Of slice distances, drawn patch by patch.")] = "2,3",
    noise: Annotated[str, typer.Option(help="In multiples of the preset's: a range.")] = "3,5",
    background: Annotated[bool, typer.Option(help="Noise outside the brain, too, as in unstripped scans.")] = False,
    device: Device = "cpu",
) -> None:
    """Train, judge, enhance.

    Example: python benchmarks/simulated_keeper.py --data ../shared/data/ixi_hh_2mm --out simulated_keeper
    """
    low, high = (float(part) for part in noise.split(","))
    job = Job(
        teacher_epochs=teacher_epochs,
        keeper_epochs=keeper_epochs,
        ratios=tuple(int(part) for part in ratios.split(",")),
        noise_scale=(low, high),
        background=background,
    )
    places = Places(data.resolve(), out.resolve())
    run_job(
        chain(job, places, device, None if patients is None else patients.resolve()),
        places,
        settings=asdict(job),
        environment=environment(places),
        console=console,
        results=lambda: table(job, places),
    )


if __name__ == "__main__":
    app()
