"""Is it better, and is it the keeper? Plain nnU-Net, guided nnU-Net and every control, few labels, simulated low field.

Subjects of keeper, segmentation and test are disjoint. All conditions of a seed train on the same subjects, patches and
augmentation for the same number of iterations, and are tested on the same subjects at the severity they were trained
at and at others. The defaults are a scaled-down 2d version for a CPU: slim networks, short trainings, small batches.
With a GPU: more iterations, features and seeds, see docs/explanation/controls.md.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console

from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.presets import DEFAULT_PRESET
from nnunet_uhf.stages import Stage, open_folder, run_stages
from nnunet_uhf.trainers.seeded import SEED_VARIABLE

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder of the benchmarks, as for those beside it

import commands

from experiment.data import (
    copy_images,
    simulated_folder,
    simulations,
    write_datasets,
    write_labelled_pairs,
    write_plans,
    write_splits,
    write_test_images,
)
from experiment.gates import headroom, print_headroom
from experiment.resident import forget_peak, peak_bytes
from experiment.settings import (
    CONDITIONS,
    CONFIGURATION,
    HF_KEEPER,
    HIGH_FIELD,
    LABELLED_PAIRS,
    LABELS_KEEPER,
    PAIRS,
    PLANS,
    SAME_KEEPER,
    SEEDS,
    SEGMENTED_KEEPER,
    Places,
    Settings,
    Severity,
    Task,
    find_task,
)
from experiment.tables import report, scores
from experiment.training import logged, train_and_predict

TRAINERS = Path(__file__).parent / "trainers"
PRETRAINING_ITERATIONS = 250

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


def environment(places: Places) -> dict[str, str]:
    """Environment of the commands: the experiment's trainers registered, the reference preset by default."""
    return commands.environment(places.out, processes=1, trainers=TRAINERS, nnUNet_UHF_PRESET="reference")


def number(dataset: str) -> str:
    """A dataset's number, for -d."""
    return dataset[len("Dataset") :][:3]


def chain(
    settings: Settings, task: Task, places: Places, *, conditions: list[str], seeds: list[int], device: str
) -> list[Stage]:
    """All stages, in order; seed by seed, so that a stopped run leaves whole seeds."""
    stages = [Stage("images", "subjects", function=lambda: copy_images(settings, task, places))]
    for group, severity, seed in simulations(settings):
        folder = simulated_folder(places, group, severity, seed)
        command = (
            "nnunet-uhf", "simulate", "-i", str(places.images(HIGH_FIELD) / group), "-o", str(folder), *task.tissues,
            *(("--masks", str(places.masks)) if task.whole else ()),
            "--preset", "t1w_0.36T_probable", "--ratio", str(severity.ratio), "--noise-scale", str(severity.noise),
            "--mode", "regrid", "--seed", str(seed),
        )  # fmt: skip
        key = f"simulate_{folder.parent.name}_{group}"
        stages.append(Stage(key, f"simulated 0.36 T, {folder.parent.name}, {group}", command))
    stages += [
        Stage("datasets", "raw datasets", function=lambda: write_datasets(settings, task, places)),
        Stage("tests", "test images", function=lambda: write_test_images(settings, task, places)),
        planned("plan", settings.datasets),
        Stage("plans", "slim plans", function=lambda: write_plans(settings, places, settings.datasets)),
        Stage("splits", "splits of all label counts", function=lambda: write_splits(settings, task, places)),
    ]
    wanted = {CONDITIONS[name].keeper for name in conditions}
    if HF_KEEPER in wanted:
        stages += list(pretraining(settings, places, HF_KEEPER, "", settings.keeper, device))
    if SAME_KEEPER in wanted:
        stages += list(pretraining(settings, places, SAME_KEEPER, "SameField", settings.same_field_keeper, device))
    if wanted & {SEGMENTED_KEEPER, LABELS_KEEPER}:
        labelled = [LABELLED_PAIRS]
        stages += [
            Stage("labelled_pairs", "pairs for a teacher that segments", function=lambda: write_labelled_pairs(places)),
            planned("plan_labelled_pairs", labelled),
            Stage("plans_labelled_pairs", "slim plans", function=lambda: write_plans(settings, places, labelled)),
        ]
        for name, suffix in ((SEGMENTED_KEEPER, ""), (LABELS_KEEPER, "SameField")):
            if name in wanted:
                stages += list(pretraining(settings, places, name, suffix, "", device, dataset=LABELLED_PAIRS))
    for seed in seeds:
        for labels in settings.labels:
            for name in conditions:
                stages.append(trained_and_predicted(settings, task, places, name, labels, seed, device))
    return stages


def planned(key: str, datasets: Sequence[str]) -> Stage:
    """Plan and preprocess datasets."""
    command = (
        "nnUNetv2_plan_and_preprocess", "-d", *map(number, datasets), "-c", CONFIGURATION, "-npfp", "1", "-np", "1",
    )  # fmt: skip
    return Stage(key, "plan and preprocess", command)


def pretraining(
    settings: Settings, places: Places, name: str, suffix: str, given: str, device: str, *, dataset: str = PAIRS
) -> Iterator[Stage]:
    """Teacher, keeper and export, or the file that is given."""
    if given:

        def take() -> None:
            places.keeper(name).parent.mkdir(exist_ok=True)
            shutil.copyfile(given, places.keeper(name))

        yield Stage(f"file_{name}", f"the keeper that was given: {given}", function=take)
        return
    length = {
        "UHF_EXPERIMENT_EPOCHS": str(settings.pretraining_epochs),
        "UHF_EXPERIMENT_ITERATIONS": str(PRETRAINING_ITERATIONS),
        "UHF_EXPERIMENT_LANE": settings.lane,
        **({"nnUNet_n_proc_DA": "0"} if settings.lane == "resident" else {}),
    }
    for role in ("Teacher", "Keeper"):
        train = (
            "nnUNetv2_train", number(dataset), CONFIGURATION, "0", "-tr", f"UHF{role}Trainer{suffix}_experiment",
            "-p", PLANS, "-device", device,
        )  # fmt: skip
        yield Stage(
            f"{role.lower()}_{name}", f"{role.lower()} {name}", train, None, length, settings.pretraining_epochs
        )
    export = (
        "nnunet-uhf", "export-keeper", "-d", number(dataset), "-c", CONFIGURATION, "-f", "0", "-p", PLANS,
        "-tr", f"UHFKeeperTrainer{suffix}_experiment", "-o", str(places.keeper(name)), "--overwrite",
    )  # fmt: skip
    yield Stage(f"file_{name}", f"keeper file {name}", export)


def trained_and_predicted(
    settings: Settings, task: Task, places: Places, name: str, labels: int, seed: int, device: str
) -> Stage:
    """Training and prediction of one condition."""
    condition = CONDITIONS[name]
    key = f"run_{name}_{labels}_{seed}"
    variables = {
        **environment(places),
        "nnUNet_results": str(places.results(name, seed)),
        "nnUNet_n_proc_DA": "0",
        "UHF_EXPERIMENT_SEED": str(seed),
        SEED_VARIABLE: str(seed),
        "UHF_EXPERIMENT_EPOCHS": str(settings.epochs),
        "UHF_EXPERIMENT_ITERATIONS": str(settings.iterations // settings.epochs),
        "UHF_EXPERIMENT_LEARNING_RATE": str(settings.learning_rate),
        "UHF_EXPERIMENT_MIRRORING": str(int(task.mirrored)),
        "UHF_EXPERIMENT_LANE": settings.lane,
        "UHF_EXPERIMENT_TEACHER": str(places.teacher),
        "nnUNet_UHF_KKN": str(places.keeper(condition.keeper)) if condition.keeper else "",
        **dict(condition.variables),
    }

    def run() -> None:
        place = torch.device(device)
        forget_peak(place)
        began = time.monotonic()
        with logged(places.out / "logs" / f"{key}.log", variables):
            train_and_predict(
                dataset=condition.dataset,
                configuration=CONFIGURATION,
                fold=settings.fold(condition, labels, seed),
                trainer=condition.trainer,
                plans=PLANS,
                images=places.test_images(condition.dataset),
                output=places.prediction(name, labels, seed),
                device=device,
            )
        line = {
            "condition": name, "labels": labels, "seed": seed, "lane": settings.lane, "device": device,
            "seconds": round(time.monotonic() - began, 1), "peak_bytes": peak_bytes(place),
        }  # fmt: skip
        with (places.out / "runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    return Stage(key, f"{name}, {labels} labels, seed {seed}", function=run)


def numbers(text: str, option: str) -> list[int]:
    """``3,10`` -> [3, 10]; UHFError when it is no list of different numbers."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise UHFError(f"{option} {text!r} is no list of whole numbers such as 3,10") from None
    if min(values) < 0 or len(set(values)) < len(values):
        raise UHFError(f"{option} {text!r}: numbers of 0 or more, each once")
    return values


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="ixi_hh_2mm, or msd_hippocampus for that task.")],
    out: Annotated[Path, typer.Option(help="Output folder; a stopped run goes on there.")],
    task: Annotated[str, typer.Option(help="tissue, region, deep_grey or hippocampus.")] = "tissue",
    labels: Annotated[str, typer.Option(help="Labelled subjects: 3,5,10,20 for example.")] = "3,10",
    seeds: Annotated[str, typer.Option(help=f"Seeds below {SEEDS}; more may be added later.")] = "0,1",
    conditions: Annotated[
        str, typer.Option(help=f"Comma-separated, of: {', '.join(CONDITIONS)}; more may be added later.")
    ] = ",".join(name for name in CONDITIONS if name != "efficient"),
    trained: Annotated[str, typer.Option(help="Severity of keeper and labelled images, RATIO:NOISE.")] = "3:4",
    tests: Annotated[str, typer.Option(help="Severities that are tested, comma-separated.")] = "3:4,4:8",
    draws: Annotated[int, typer.Option(help="Simulated images of each labelled high-field image.")] = 4,
    keeper_subjects: Annotated[int, typer.Option(help="Subjects the keeper is trained on.")] = 20,
    pool: Annotated[int, typer.Option(help="Subjects that labels are drawn from.")] = 20,
    test_subjects: Annotated[int, typer.Option(help="Test subjects.")] = 8,
    epochs: Annotated[int, typer.Option(help="Epochs of a segmentation training: steps of its learning rate.")] = 4,
    iterations: Annotated[int, typer.Option(help="Iterations of a segmentation training, all epochs.")] = 200,
    learning_rate: Annotated[
        float, typer.Option(help="Of Adam for all weights; 0: nnU-Net's own optimizer and learning rate.")
    ] = 0.0,
    batch: Annotated[int, typer.Option(help="Slices in a batch.")] = 4,
    features: Annotated[str, typer.Option(help="Features of the segmentation network's stages.")] = "16,32,64,128",
    pretraining_epochs: Annotated[int, typer.Option(help="Epochs (of 250 iterations) of teacher and keeper.")] = 3,
    keeper_features: Annotated[int, typer.Option(help="Base features of teacher and keeper.")] = 16,
    keeper_preset: Annotated[
        str, typer.Option(help="Of teacher and keeper: reference, efficient, ..")
    ] = DEFAULT_PRESET,
    keeper: Annotated[
        Path | None, typer.Option(help="Take this keeper; its subjects must be the first ones by name.")
    ] = None,
    same_field_keeper: Annotated[Path | None, typer.Option(help="The keeper of the same-field control.")] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only data, plans and keepers: for paired/run.py.")
    ] = False,
    lane: Annotated[
        Literal["nnunet", "resident"],
        typer.Option(help="nnU-Net's own loop, or its sampling and augmentation on cases in the device's memory."),
    ] = "nnunet",
    device: Annotated[str, typer.Option("-device", help="cpu or cuda.")] = "cpu",
) -> None:
    """Run the experiment, print its tables, and write results.csv and results.json.

    Example: python benchmarks/experiment/run.py --data ixi_hh_2mm --out experiment --labels 3,10 --seeds 0,1
    """
    chosen = conditions.split(",")
    unknown = sorted(set(chosen) - set(CONDITIONS))
    if unknown:
        raise UHFError(f"unknown conditions {', '.join(unknown)}: choose among {', '.join(CONDITIONS)}")
    if keeper is not None and same_field_keeper is None and "same_field" in chosen:
        raise UHFError("with --keeper, give --same-field-keeper too, or leave same_field out of --conditions")
    if keeper is not None and (pretrained := {"true_guides", "segmented", "labels_only"} & set(chosen)):
        raise UHFError(
            f"{', '.join(sorted(pretrained))}: pretrained here; leave out of --conditions, or leave --keeper out"
        )
    chosen_seeds = [] if prepare else numbers(seeds, "--seeds")
    if max(chosen_seeds, default=0) >= SEEDS:
        raise UHFError(f"--seeds {seeds}: splits are made for seeds below {SEEDS}")
    settings = Settings(
        task=task,
        keeper_subjects=keeper_subjects,
        pool=pool,
        test_subjects=test_subjects,
        labels=tuple(numbers(labels, "--labels")),
        trained=Severity.parse(trained),
        tests=tuple(Severity.parse(text) for text in tests.split(",")),
        draws=draws,
        epochs=epochs,
        iterations=iterations,
        learning_rate=learning_rate,
        pretraining_epochs=pretraining_epochs,
        batch=batch,
        features=tuple(numbers(features, "--features")),
        keeper_features=keeper_features,
        keeper_preset=keeper_preset,
        keeper=str(keeper.resolve()) if keeper else "",
        same_field_keeper=str(same_field_keeper.resolve()) if same_field_keeper else "",
        lane=lane,
    )
    places = Places(data.resolve(), out.resolve())
    state = open_folder(places.out, asdict(settings))
    stages = chain(settings, find_task(task, places.data), places, conditions=chosen, seeds=chosen_seeds, device=device)
    run_stages(stages, state=state, environment=environment(places), logs=places.out / "logs", console=console)
    if prepare:
        return
    found = scores(settings, find_task(task, places.data), places, state)
    gates = headroom(settings, found)
    print_headroom(gates, console)
    report(settings, found, gates, places, state, console=console)


if __name__ == "__main__":
    app()
