"""What simulating low field while training costs: samples a second of one worker, beside nnU-Net's own augmentation.

Each repeat sends the same phantom through nnU-Net's default augmentation (which draws what it does anew) and then
through the simulation of its result, on one thread, as in a worker process of nnU-Net.
"""

from __future__ import annotations

import platform
import time
from typing import Annotated

import numpy as np
import torch
import typer
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nnunet_uhf.routes.simulation import SimulationTask
from nnunet_uhf.trainers.image_to_image.simulate_source import RememberedCase, SimulateSource
from nnunet_uhf.trainers.image_to_image.simulated_pairs import SimulatedPairs

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
CASE = "phantom"

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Phantom:
    """One case, as nnU-Net's datasets give it: shells of CSF, grey and white matter, z-scored over the brain."""

    identifiers = (CASE,)

    def __init__(self, size: tuple[int, ...]) -> None:
        axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in size), indexing="ij", sparse=True)
        radius = np.sqrt(sum(x * x for x in axes))
        self.labels = np.select([radius < 0.3, radius < 0.65, radius < 0.85, radius < 1], [1, 3, 2, 1], -1)
        rng = np.random.default_rng(0)
        raw = np.array([0, 40, 75, 110, 0])[self.labels] + rng.normal(0, 3, size)
        inside = self.labels > 0
        image = np.where(inside, (raw - raw[inside].mean()) / raw[inside].std(), 0)
        self.image, self.labels = image.astype(np.float32), self.labels.astype(np.int16)

    def load_case(self, identifier: str) -> str:
        """Nothing is loaded: the patch is cut before time is taken."""
        return identifier


def measure(patch: tuple[int, ...], *, ratios: tuple[int, ...], repeats: int, clock: str) -> tuple[float, float]:
    """Mean seconds a sample of nnU-Net's augmentation and of the simulation."""
    now = CLOCKS[clock]
    angle = (-np.pi, np.pi) if len(patch) == 2 else (-np.pi / 6, np.pi / 6)  # nnU-Net's for isotropic patches
    initial = get_patch_size(patch, *[angle] * 3, (0.85, 1.25))
    case = Phantom(tuple(int(n) for n in initial) if len(patch) == 3 else (patch[0], *(int(n) for n in initial)))
    task = SimulationTask(preset="t1w_0.36T_probable", source="LF", ratios=ratios, tissues={"csf": 1, "gm": 2, "wm": 3})
    pairs = SimulatedPairs(task, patch_size=patch, masked=True, where="the benchmark")
    pairs.measure(CASE, case.image[None], case.labels[None])
    simulate = SimulateSource(pairs.simulation, pairs.cases, by_case=False)
    simulate.current = RememberedCase(case)
    simulate.current.load_case(CASE)
    augment = nnUNetTrainer.get_training_transforms(
        patch, angle, None, tuple(range(len(patch))), False, use_mask_for_norm=[True]
    )
    image, labels = torch.from_numpy(case.image)[None], torch.from_numpy(case.labels)[None]
    if len(patch) == 2:
        image, labels = image[:, patch[0] // 2], labels[:, patch[0] // 2]
    times = np.zeros((repeats, 2))
    for repeat in track(range(-2, repeats), description="x".join(map(str, patch)), console=console):
        start = now()
        moved = augment(image=image.clone(), segmentation=labels.clone())
        between = now()
        simulate(**moved)
        if repeat >= 0:  # the first two fill caches
            times[repeat] = between - start, now() - between
    augmentation, simulation = times.mean(axis=0)
    return float(augmentation), float(simulation)


@app.command()
def main(
    patch: Annotated[list[str], typer.Option(help="Patch size, as 128x128x128 or 256x256; may be repeated.")],
    ratio: Annotated[list[int] | None, typer.Option(help="Slice distance in voxels; one of them is drawn.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Samples; augmentation varies from one to the next.")] = 50,
    clock: Annotated[str, typer.Option(help="wall, or processor on a machine that is shared.")] = "wall",
) -> None:
    """Print samples a second of one worker with and without simulation, for each patch size."""
    if clock not in CLOCKS:
        raise typer.BadParameter(f"{clock!r} is no clock; choose {' or '.join(CLOCKS)}", param_hint="--clock")
    torch.set_num_threads(1)
    np.random.seed(0)  # noqa: NPY002 - the generator that batchgenerators uses
    torch.manual_seed(0)
    ratios = tuple(ratio or (2, 3, 4))
    table = Table(title=f"torch {torch.__version__}, {platform.machine()}, one thread, {clock} time, ratios {ratios}")
    for heading in ("patch", "nnU-Net, samples/s", "simulation, samples/s", "both, samples/s", "time, both / nnU-Net"):
        table.add_column(heading, justify="right")
    for size in patch:
        numbers = tuple(int(n) for n in size.split("x"))
        augmentation, simulation = measure(numbers, ratios=ratios, repeats=repeats, clock=clock)
        both = augmentation + simulation
        table.add_row(
            size, *(f"{1 / seconds:.2f}" for seconds in (augmentation, simulation, both)), f"{both / augmentation:.2f}"
        )
    console.print(table)


if __name__ == "__main__":
    app()
