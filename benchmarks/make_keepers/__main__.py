"""From label maps to the keeper files of the package; make_keepers.sh has the whole of it in one command.

Example: python benchmarks/make_keepers train --data ../shared/data --out keepers_made -c 2d --steps 10000
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder of the benchmarks, as for those beside it

from make_keepers.batches import read_draws, split
from make_keepers.maps import label_maps
from make_keepers.measure import measure as measure_networks
from make_keepers.pairs import make_pairs
from make_keepers.shipping import KINDS, network_of, ship
from make_keepers.training import TAUGHT_BY, Lesson, Pupil, train
from nnunet_uhf.keepers.packaged import FOLDER
from nnunet_uhf.networks.contract import EnhancementNet

HELD_OUT = ("synthseg_training_seg_19", "synthseg_training_seg_20", "synthsr_synthsr_brain5_labels")
"""Label maps that no training sees."""

app = typer.Typer(add_completion=False)
Out = Annotated[Path, typer.Option(help="Output folder; a stopped run goes on there.")]
Data = Annotated[Path, typer.Option(help="Folder with synthseg_label_maps/, label_maps_uhf/ and ixi_hh_2mm/.")]
Name = Annotated[str, typer.Option(help="Of the training.")]


@app.command(name="train")
def train_one(
    data: Data,
    out: Out,
    name: Name,
    configuration: Annotated[str, typer.Option("-c", help="2d or 3d.")] = "2d",
    taught_by: Annotated[str, typer.Option(help=f"{', '.join(TAUGHT_BY)}.")] = "both",
    steps: Annotated[int, typer.Option(min=1)] = 10_000,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    patch: Annotated[int, typer.Option(min=64, help="128 in 2D and 64 in 3D suit a CPU.")] = 128,
    width: Annotated[int, typer.Option(help="Of the keeper, a multiple of 8.")] = 8,
    draws: Annotated[int, typer.Option(min=1, help="Pairs of each map, without the head.")] = 3,
    heads: Annotated[int, typer.Option(min=0, help="Pairs of each whole head.")] = 1,
    device: Annotated[str, typer.Option("-device", help="cpu or cuda.")] = "cpu",
    minutes: Annotated[float, typer.Option(help="Stop at the next checkpoint then; the same command goes on.")] = inf,
) -> None:
    """Simulate the pairs, where they are not there yet, and train."""
    make_pairs(
        label_maps(data / "synthseg_label_maps", data / "label_maps_uhf"),
        out / "pairs",
        draws=draws,
        heads=heads,
        seed=0,
        console=Console(stderr=True),
    )
    training, held_out = split(read_draws(out / "pairs"), HELD_OUT)
    lesson = Lesson(
        dim=2 if configuration == "2d" else 3, width=width, taught_by=taught_by, steps=steps, batch=batch, patch=patch
    )
    folder = out / name
    train(lesson, training, held_out, folder, device=torch.device(device), seconds=60 * minutes)
    (folder / "lesson.json").write_text(json.dumps(asdict(lesson), indent=1))


@app.command()
def measure(
    data: Data,
    out: Out,
    names: Annotated[list[str], typer.Argument(help="Trainings of one dimension and width.")],
) -> None:
    """Measure trainings and a random network of their kind on real scans; writes measured_2d.json, or _3d.json."""
    pupils = {name: trained(out / name) for name in names}
    torch.manual_seed(0)
    networks: dict[str, EnhancementNet] = {"random": network_of(Pupil(next(iter(pupils.values()))[1]))}
    networks |= {name: network_of(pupil) for name, (pupil, _) in pupils.items()}
    found = measure_networks(networks, data / "ixi_hh_2mm")
    (out / f"measured_{next(iter(pupils.values()))[1].dim}d.json").write_text(json.dumps(found, indent=1))


@app.command(name="ship")
def ship_one(
    out: Out,
    name: Name,
    to: Annotated[Path, typer.Option(help="Folder for the files.")] = FOLDER,
) -> None:
    """Write a training's keeper files in half precision."""
    pupil, lesson = trained(out / name)
    training, held_out = split(read_draws(out / "pairs"), HELD_OUT)
    to.mkdir(exist_ok=True)
    for kind in KINDS:
        print(json.dumps(ship(pupil, lesson, training, held_out, to, kind=kind)))


def trained(folder: Path) -> tuple[Pupil, Lesson]:
    """What a finished training has made."""
    lesson = Lesson(**json.loads((folder / "lesson.json").read_text()))
    state = torch.load(folder / "latest.pth", map_location="cpu", weights_only=True)
    if state["step"] != lesson.steps:
        raise typer.BadParameter(f"{folder} has {state['step']} of {lesson.steps} steps: train it to its end first")
    pupil = Pupil(lesson)
    pupil.load_state_dict(state["pupil"])
    return pupil.eval(), lesson


if __name__ == "__main__":
    app()
