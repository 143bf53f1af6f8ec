"""What guidance brings: plain, guided and control trainings that start from the same weights and see the same samples.

Works in the folder of a demo, a main job or an experiment, which have data, plans and keepers. Every training of a
seed has the same first backbone and the same batches (`trainers/seeded.py`), so their differences are paired; each is
tested on whole held-out scans. One JSON line a training; a stopped run goes on.

It stands beside `experiment/run.py`, which makes data and keepers, knows one 2d configuration and tests finished models
by their files: this one looks at trainings while they run, of any dataset and configuration. Dice, folders and the
conditions' data are the same.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import torch
import typer
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder of the benchmarks, as for those beside it

import commands
from experiment.tables import dice

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.keeper_files import KEEPER_VARIABLE
from nnunet_uhf.trainers.seeded import SEED_VARIABLE
from paired.tables import draw, table
from paired.trainers import CONDITIONS, EPOCHS

OF_NO_MATTER = {"preset": "reference", "rate": None, "fused": None}
"""To plain trainings: one serves all presets, rates and numbers of fused stages."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


def environment(work: Path, results: Path, keeper: Path | None, seed: int) -> dict[str, str]:
    """nnU-Net's folders, the keeper, the seed; one process."""
    return commands.environment(
        work,
        processes=1,
        nnUNet_results=str(results),
        nnUNet_n_proc_DA="0",
        **{SEED_VARIABLE: str(seed)},
        **({} if keeper is None else {KEEPER_VARIABLE: str(keeper)}),
    )


def title_of(job: dict[str, Any]) -> str:
    """Of a training's log and folder: no two share one, since a model folder is of one keeper."""
    return "_".join(str(value) for value in job.values())


class Tests:
    """Held-out scans by group, a folder or a pattern of file names in one, with their true labels."""

    def __init__(self, groups: dict[str, Path], truth: Path) -> None:
        self.truth = truth
        self.groups = {name: _scans(folder) for name, folder in groups.items()}

    def dice(self, trainer: nnUNetTrainer) -> dict[str, list[list[float | None]]]:
        """Dice in percent: by group, of every scan, of every label; None where truth and prediction have none."""
        predictor = nnUNetPredictor(use_mirroring=False, device=trainer.device, allow_tqdm=False)
        network, plans = trainer.network, trainer.plans_manager
        predictor.manual_initialization(
            network, plans, trainer.configuration_manager, [network.state_dict()], trainer.dataset_json, "", None
        )
        reader = plans.image_reader_writer_class()
        was_training = network.training
        network.eval()
        trainer.set_deep_supervision_enabled(False)
        found: dict[str, list[list[float | None]]] = {}
        for group, scans in self.groups.items():
            found[group] = []
            for path in scans:
                image, properties = reader.read_images([str(path)])
                predicted = predictor.predict_single_npy_array(image, properties)
                name = path.name.replace("_0000.nii.gz", "")
                candidates = [p for p in self.truth.glob("*.nii.gz") if name.startswith(p.name.removesuffix(".nii.gz"))]
                if len(candidates) != 1:
                    raise UHFError(
                        f"{self.truth}: {len(candidates)} true label maps fit {path.name}; there must be one"
                    )
                truth = reader.read_seg(str(candidates[0]))[0][0]
                found[group].append(
                    [_known(dice(truth, predicted, label)) for label in trainer.label_manager.foreground_labels]
                )
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        network.train(was_training)
        return found


def _scans(place: Path) -> list[Path]:
    """First channels in a folder, or the files of a pattern."""
    folder, pattern = (place.parent, place.name) if "*" in place.name else (place, "*_0000.nii.gz")
    scans = sorted(folder.glob(pattern))
    if not scans:
        raise UHFError(f"{place}: no test images there; give a folder of images named CASE_0000.nii.gz, or a pattern")
    return scans


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else value


def train(
    condition: str,
    *,
    dataset: str,
    configuration: str,
    fold: int,
    plans_name: str,
    work: Path,
    tests: Tests,
    steps: int,
    points: int,
    rate: float | None,
    batch: int | None,
    fused: int | None,
    preset: str,
    device: str,
) -> dict[str, Any]:
    """One training: the curve of its test scores, and how loud each stage's guidance is in the end."""
    folder = work / "nnUNet_preprocessed" / dataset
    plans = json.loads((folder / f"{plans_name}.json").read_text())
    plans["continue_training"] = False
    if batch is not None:
        plans["configurations"][configuration]["batch_size"] = batch
    began = time.time()
    curve: dict[str, Any] = {}

    def look(trainer: nnUNetTrainer) -> None:
        if trainer.current_epoch % (EPOCHS // points) == 0:
            curve[str(trainer.current_epoch * trainer.num_iterations_per_epoch)] = tests.dice(trainer)

    chosen = {"steps": steps, "rate": rate, "fused": fused, "look": look}
    trainer_class = type(CONDITIONS[condition].__name__, (CONDITIONS[condition],), chosen)
    with mock.patch.dict(os.environ, {"nnUNet_UHF_PRESET": preset}):
        trainer = trainer_class(
            plans, configuration, fold, json.loads((folder / "dataset.json").read_text()), torch.device(device)
        )
        trainer.run_training()
    loudness = trainer.loudness if condition != "plain" else []
    return {"curve": curve, "loudness": loudness, "seconds": time.time() - began}


@app.command()
def main(
    work: Annotated[Path, typer.Option(help="Folder with nnUNet_raw and nnUNet_preprocessed.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    dataset: Annotated[str, typer.Option("-d", help="Name of the dataset.")],
    configuration: Annotated[str, typer.Option("-c")] = "3d_fullres",
    fold: Annotated[int, typer.Option("-f")] = 0,
    plans: Annotated[str, typer.Option("-p")] = "nnUNetPlans",
    keeper: Annotated[Path | None, typer.Option(help="File or folder of the keeper.")] = None,
    same_field_keeper: Annotated[Path | None, typer.Option(help="The control's.")] = None,
    tests: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of test images, or 'NAME=FOLDER/*_x_0000.nii.gz'; imagesTs without it."),
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="True labels; labelsTs without it.")] = None,
    conditions: Annotated[str, typer.Option(help="With commas between them.")] = "plain,guided,random,zero",
    seeds: Annotated[int, typer.Option(min=2)] = 4,
    steps: Annotated[int, typer.Option(min=EPOCHS)] = 250,
    points: Annotated[int, typer.Option(help="Of the learning curve: 1, 2, 5 or 10.")] = 2,
    rate: Annotated[float | None, typer.Option(help="Of the fusions; 0 for the backbone's optimizer.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Size of a batch; that of the plans without it.")] = None,
    fused: Annotated[
        int | None, typer.Option(min=1, help="Stages that are guided, finest first; all without it.")
    ] = None,
    preset: Annotated[str, typer.Option()] = "reference",
    device: Annotated[str, typer.Option("-device")] = "cpu",
) -> None:
    """Train what is not trained yet, print the table and draw the curves.

    Example: python benchmarks/paired/run.py --work DEMO --out OUT -d Dataset002_PhantomTissues -p nnUNetPlans_demo
    --keeper DEMO/keepers
    """
    work, names = work.resolve(), conditions.split(",")
    unknown = [name for name in names if name not in CONDITIONS]
    if unknown:
        raise UHFError(f"--conditions: no {', '.join(unknown)}; choose among {', '.join(CONDITIONS)}")
    raw = work / "nnUNet_raw" / dataset
    groups = dict(entry.split("=", 1) for entry in tests or []) or {"test": str(raw / "imagesTs")}
    held_out = Tests({name: Path(folder) for name, folder in groups.items()}, truth or raw / "labelsTs")
    if device == "cpu":
        torch.set_num_threads(1)  # the order of sums, and with it every number, does not depend on the machine's cores
    out.mkdir(parents=True, exist_ok=True)
    lines = out / "trainings.jsonl"
    written = lines.read_text().splitlines() if lines.is_file() else []
    done = [{"fused": None, **json.loads(line)} for line in written]  # lines of before do not say it
    setting = {
        "dataset": dataset, "configuration": configuration, "steps": steps, "preset": preset, "rate": rate,
        "batch": batch, "fused": fused,
    }  # fmt: skip
    jobs = [
        {**setting, **(OF_NO_MATTER if name == "plain" else {}), "seed": seed, "condition": name}
        for seed in range(1, seeds + 1)
        for name in names
    ]
    open_jobs = [job for job in jobs if not any(job.items() <= each.items() for each in done)]
    for job in track(open_jobs, "trainings", console=console):
        name = job["condition"]
        file = same_field_keeper if name == "same_field" else keeper
        title = title_of(job)
        log, results = out / "logs" / f"{title}.log", out / "nnUNet_results" / title
        log.parent.mkdir(exist_ok=True)
        shutil.rmtree(results, ignore_errors=True)  # of a run that was stopped
        with (
            log.open("w") as printed,
            redirect_stdout(printed),
            mock.patch.dict(os.environ, environment(work, results, file, job["seed"])),
        ):
            result = train(
                name, dataset=dataset, configuration=configuration, fold=fold, plans_name=plans, work=work,
                tests=held_out, steps=steps, points=points, rate=rate, batch=batch, fused=fused,
                preset=preset, device=device,
            )  # fmt: skip
        done.append({**job, **result})
        with lines.open("a") as file_of_lines:
            file_of_lines.write(json.dumps(done[-1]) + "\n")
    chosen = [each for each in done if any(job.items() <= each.items() for job in jobs)]
    for group in held_out.groups:
        console.print(table(chosen, group))
    special = f"{'' if rate is None else f'_{rate:g}'}{'' if fused is None else f'_{fused}_fused'}"
    draw(chosen, out / f"{configuration}_{steps}_{preset}{special}.png")


if __name__ == "__main__":
    app()
