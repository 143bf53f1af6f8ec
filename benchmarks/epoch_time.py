"""Epoch time of plain and guided trainings, by nnU-Net's own benchmark trainers (CUDA).

Runs `nnUNetv2_train` for every trainer and, guided, for every preset asked for; results go to a folder of their own.
By default epochs of 20 iterations and nothing compiled: less than three minutes on a graphics card for two presets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from costs import markdown
from rich.console import Console

from nnunet_uhf.installation.trainer_path import trainer_path
from nnunet_uhf.networks.presets import PRESET_VARIABLE, PRESETS
from nnunet_uhf.nnunet.model_folder import ModelName

TRAINERS = Path(__file__).with_name("epoch_time_trainers")
KINDS = ("5epochs", "5epochs_noDataLoading")

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def fastest_epoch(
    dataset: str,
    configuration: str,
    plans: str,
    *,
    trainer: str,
    preset: str,
    results: Path,
    iterations: int,
    compiled: bool,
) -> float:
    """Seconds of the fastest of 5 epochs; the training's folder is made anew below `results`."""
    place = results / preset
    variables = {
        **os.environ,
        "nnUNet_results": str(place),
        "nnUNet_extTrainer": os.pathsep.join((str(TRAINERS), trainer_path())),
        PRESET_VARIABLE: preset if preset in PRESETS else "",
        "EPOCH_TIME_ITERATIONS": str(iterations),
        "nnUNet_compile": "t" if compiled else "f",
    }
    command = Path(sys.executable).with_name("nnUNetv2_train")
    subprocess.run([command, dataset, configuration, "0", "-tr", trainer, "-p", plans], env=variables, check=True)
    (report,) = place.glob(f"*/{ModelName(trainer, plans, configuration)}/fold_0/benchmark_result.json")
    (measured,) = json.loads(report.read_text()).values()
    return float(measured["fastest_epoch"])


EXAMPLES = """
Example:

nnUNet_UHF_KKN=keeper.safetensors python benchmarks/epoch_time.py -d 102 -c 3d_fullres --results epoch_times
"""


@app.command(epilog=EXAMPLES)
def main(
    dataset: Annotated[str, typer.Option("-d", help="Planned and preprocessed dataset, id or name.")],
    results: Annotated[Path, typer.Option(help="Folder for the trainings; must not exist.")],
    configuration: Annotated[str, typer.Option("-c", help="Configuration.")] = "3d_fullres",
    plans: Annotated[str, typer.Option("-p", help="Plans without a keeper; nnUNet_UHF_KKN names it.")] = "nnUNetPlans",
    presets: Annotated[str, typer.Option(help="Of the guided trainings.")] = "reference,efficient",
    iterations: Annotated[int, typer.Option(min=1, help="Of an epoch; nnU-Net's has 250.")] = 20,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile as nnU-Net does.")] = False,
) -> None:
    """Print the fastest of 5 epochs, with and without data loading, plain and for each preset."""
    results.mkdir(parents=True)
    asked = presets.split(",")
    rows = [["fastest of 5 epochs, s", "plain", *asked, *(f"{preset} / plain" for preset in asked)]]
    for kind in KINDS:
        trainers = {"plain": f"PlainTrainerBenchmark_{kind}"} | dict.fromkeys(asked, f"UHFTrainerBenchmark_{kind}")
        seconds = [
            fastest_epoch(
                dataset,
                configuration,
                plans,
                trainer=trainer,
                preset=preset,
                results=results,
                iterations=iterations,
                compiled=compiled,
            )
            for preset, trainer in trainers.items()
        ]
        ratios = [f"{time / seconds[0]:.2f}" for time in seconds[1:]]
        rows.append([kind, *(f"{time:.1f}" for time in seconds), *ratios])
    console.print(markdown(rows), soft_wrap=True)


if __name__ == "__main__":
    app()
