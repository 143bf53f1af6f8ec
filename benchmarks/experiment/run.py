"""Is it better, and is it the keeper? Plain nnU-Net, guided nnU-Net and every control, few labels, simulated low field.

Subjects of keeper, segmentation and test are disjoint. All conditions of a seed train on the same subjects, patches and
augmentation for the same number of iterations, and are tested on the same subjects at the severity they were trained
at and at others. The defaults are a scaled-down 2d version for a CPU: slim networks, short trainings, small batches.
With a GPU: more iterations, features and seeds, see docs/explanation/controls.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK
from nnunet_uhf.networks.presets import DEFAULT_PRESET, PRESETS
from nnunet_uhf.stages import open_folder, run_stages

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder of the benchmarks, as for those beside it

from experiment.chain import chain
from experiment.conditions import CONDITIONS, HF_KEEPER, KEEPERS, LABELLED_PAIRS, PAIRS, SAME_KEEPER, USUAL, with_needed
from experiment.controls import against_controls, print_controls
from experiment.drift import drift_of_keepers, print_drift
from experiment.gates import headroom, print_headroom
from experiment.runs import environment
from experiment.settings import SEEDS, WIDE_DRAWS, Places, Settings, Severity, find_task
from experiment.tables import report, scores
from experiment.workers import workers

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()
FEWEST_STAGES = 3


def numbers(text: str, option: str) -> list[int]:
    """``3,10`` -> [3, 10]; UHFError when it is no list of different numbers."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise UHFError(f"{option} {text!r} is no list of whole numbers such as 3,10") from None
    if min(values) < 0 or len(set(values)) < len(values):
        raise UHFError(f"{option} {text!r}: numbers of 0 or more, each once")
    return values


def needs_pairs(condition: str) -> bool:
    """Whether it needs what is made from the pairs of the high-field keeper, beside that keeper's file."""
    one = CONDITIONS[condition]
    given = (None, HF_KEEPER, SAME_KEEPER)
    return one.teacher or (one.keeper not in given and KEEPERS[one.keeper].dataset in (PAIRS, LABELLED_PAIRS))


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="ixi_hh_2mm, or msd_hippocampus for that task.")],
    out: Annotated[Path, typer.Option(help="Output folder; a stopped run goes on there.")],
    task: Annotated[str, typer.Option(help="tissue, region, structure, deep_grey or hippocampus.")] = "tissue",
    labels: Annotated[str, typer.Option(help="Labelled subjects: 3,5,10,20 for example.")] = "3,10",
    seeds: Annotated[str, typer.Option(help=f"Seeds below {SEEDS}; more may be added later.")] = "0,1",
    conditions: Annotated[
        str, typer.Option(help=f"Comma-separated, of: {', '.join(CONDITIONS)}; more may be added later.")
    ] = ",".join(USUAL),
    trained: Annotated[
        str, typer.Option(help="Severity of keeper and labelled images, RATIO:NOISE[:BIAS[:CROP]].")
    ] = "3:4",
    tests: Annotated[str, typer.Option(help="Severities that are tested, comma-separated.")] = "3:4,4:8",
    wide_draws: Annotated[
        int, typer.Option(min=1, help="Severities of each keeper subject, for one_target.")
    ] = WIDE_DRAWS,
    draws: Annotated[int, typer.Option(help="Simulated images of each labelled high-field image.")] = 4,
    keeper_subjects: Annotated[int, typer.Option(help="Subjects the keeper is trained on.")] = 20,
    pool: Annotated[int, typer.Option(help="Subjects that labels are drawn from.")] = 20,
    test_subjects: Annotated[int, typer.Option(help="Test subjects.")] = 8,
    epochs: Annotated[int, typer.Option(help="Epochs of a segmentation training: steps of its learning rate.")] = 4,
    iterations: Annotated[int, typer.Option(help="Iterations of a segmentation training, all epochs.")] = 200,
    learning_rate: Annotated[
        float, typer.Option(help="Of nnU-Net's AdamW for the backbone; 0: its SGD and learning rate.")
    ] = 0.0,
    batch: Annotated[int, typer.Option(help="Slices in a batch.")] = 4,
    features: Annotated[str, typer.Option(help="Features of the segmentation network's stages.")] = "16,32,64,128",
    pretraining_epochs: Annotated[int, typer.Option(help="Epochs (of 250 iterations) of teacher and keeper.")] = 3,
    keeper_features: Annotated[int, typer.Option(help="Base features of teacher and keeper.")] = 16,
    keeper_preset: Annotated[
        str, typer.Option(help="Of teacher and keeper: reference, efficient, ..")
    ] = DEFAULT_PRESET,
    keeper_seed: Annotated[int, typer.Option(min=0, help="Of the trainings of teachers and keepers.")] = 0,
    keeper: Annotated[
        Path | None, typer.Option(help="Take this keeper; its subjects must be the first ones by name.")
    ] = None,
    same_field_keeper: Annotated[Path | None, typer.Option(help="The keeper of the same-field control.")] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only data, plans and keepers: for paired/run.py.")
    ] = False,
    measure_drift: Annotated[
        bool, typer.Option("--drift", help="Also how far the maps of keepers drift with severity.")
    ] = False,
    lane: Annotated[
        Literal["nnunet", "resident"],
        typer.Option(help="nnU-Net's own loop, or its sampling and augmentation on cases in the device's memory."),
    ] = "nnunet",
    batches_on_cpu: Annotated[
        bool, typer.Option("--batches-on-cpu", help="In the resident lane with -device cuda: augment on the CPU.")
    ] = False,
    side_by_side: Annotated[
        int, typer.Option(min=1, help="Segmentation trainings at a time, each in a process of its own.")
    ] = 1,
    device: Annotated[str, typer.Option("-device", help="cpu or cuda.")] = "cpu",
) -> None:
    """Run the experiment, print its tables, and write results.csv and results.json.

    Example: python benchmarks/experiment/run.py --data ixi_hh_2mm --out experiment --labels 3,10 --seeds 0,1
    """
    chosen = conditions.split(",")
    unknown = sorted(set(chosen) - set(CONDITIONS))
    if unknown:
        raise UHFError(f"unknown conditions {', '.join(unknown)}: choose among {', '.join(CONDITIONS)}")
    wanted = with_needed(chosen)
    if keeper is not None and same_field_keeper is None and any(CONDITIONS[n].keeper == SAME_KEEPER for n in wanted):
        raise UHFError("with --keeper, give --same-field-keeper too, or leave same_field out of --conditions")
    if keeper is not None and (pretrained := [name for name in wanted if needs_pairs(name)]):
        raise UHFError(
            f"{', '.join(sorted(pretrained))}: pretrained here; leave out of --conditions, or leave --keeper out"
        )
    if "privileged" in wanted and PRESETS[keeper_preset].network != DEFAULT_NETWORK:
        raise UHFError(
            f"privileged: the maps of a keeper of the preset {keeper_preset} have not the sizes of its teacher's; take "
            "--keeper-preset reference, or leave it out of --conditions"
        )
    chosen_seeds = [] if prepare else numbers(seeds, "--seeds")
    if max(chosen_seeds, default=0) >= SEEDS:
        raise UHFError(f"--seeds {seeds}: splits are made for seeds below {SEEDS}")
    stages_of_network = numbers(features, "--features")
    if len(stages_of_network) < FEWEST_STAGES:
        raise UHFError(
            f"--features {features}: a network of {FEWEST_STAGES} stages or more, such as 16,32,64; nnU-Net weighs the "
            "coarsest output with 0, so one of two stages has no loss"
        )
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
        features=tuple(stages_of_network),
        keeper_features=keeper_features,
        keeper_preset=keeper_preset,
        keeper=str(keeper.resolve()) if keeper else "",
        same_field_keeper=str(same_field_keeper.resolve()) if same_field_keeper else "",
        lane=lane,
        wide_draws=wide_draws,
        keeper_seed=keeper_seed,
    )
    places = Places(data.resolve(), out.resolve())
    state = open_folder(places.out, settings.stored())
    found_task = find_task(task, places.data)
    if batches_on_cpu:
        os.environ["UHF_EXPERIMENT_BATCHES_ON_CPU"] = "1"  # of every training of this run, and of its processes
    with workers(side_by_side) as work:
        stages = chain(settings, found_task, places, conditions=chosen, seeds=chosen_seeds, device=device, work=work)
        logs = places.out / "logs"
        run_stages(
            stages,
            state=state,
            environment=environment(places),
            logs=logs,
            console=console,
            side_by_side=side_by_side,
        )
    if prepare:
        return
    found = scores(settings, found_task, places, state)
    gates, controls = headroom(settings, found), against_controls(settings, found)
    drift = drift_of_keepers(settings, found_task, places, device=device) if measure_drift else []
    print_headroom(gates, console)
    report(settings, found, {"headroom": gates, "controls": controls, "drift": drift}, places, state, console=console)
    print_controls(controls, console)
    print_drift(drift, console)


if __name__ == "__main__":
    app()
