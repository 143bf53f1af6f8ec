"""How the cost of guidance scales with patch, stages, channels and classes, and what a whole volume takes to predict.

Counted on the meta device, so that a patch for a large graphics card can be counted anywhere; `--volume` computes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import typer
from costs import MEASURED, Cost, Setting, counted, markdown, time_ratio
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from overhead import CLOCKS, default_network, guide_by, set_up
from rich.console import Console
from rich.progress import track
from torch import nn

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Case:
    """One network on one input: nnU-Net's default U-Net."""

    patch: tuple[int, ...] = (128, 128, 128)
    stages: int = 6
    channels: int = 1
    classes: int = 4
    batch: int = 2
    keeper_features: int | None = None

    def networks(self, features: int = 32) -> dict[str, Callable[[], nn.Module]]:
        """The plain one and its guided twins, one per preset, with random weights."""
        setting = self.setting

        def plain() -> nn.Module:
            return default_network(setting, stages=self.stages, features=features, classes=self.classes)

        def guided(name: str) -> nn.Module:
            size = "width" if name == "efficient" else "base_features"
            return guide_by(name, plain(), setting, **({size: self.keeper_features} if self.keeper_features else {}))

        return {"plain": plain} | {name: lambda name=name: guided(name) for name in MEASURED}

    @property
    def setting(self) -> Setting:
        """For the bench."""
        return Setting(self.patch, self.batch, self.channels, None)


USUAL = Case()
FLAT = Case(patch=(256, 256), stages=7, batch=12)
CASES = {
    "patch": [replace(USUAL, patch=(n, n, n), stages=stages) for n, stages in ((64, 5), (96, 5), (128, 6), (160, 6))],
    "stages": [replace(USUAL, patch=(64, 64, 64), stages=stages) for stages in (3, 4, 5)],
    "channels": [replace(USUAL, channels=channels) for channels in (1, 2, 4)],
    "classes": [replace(USUAL, classes=classes) for classes in (4, 27, 134)],
    "2D": [FLAT, replace(FLAT, patch=(512, 512), stages=8), replace(FLAT, classes=134)],
}


def counted_row(case: Case) -> list[str]:
    """What the plain network takes, and how many times that the guided ones."""
    costs: dict[str, Cost] = {}
    for name, make in case.networks().items():
        with torch.device("meta"):
            network = make()
        costs[name] = counted(network, case.setting)
    plain = costs["plain"]
    row = ["x".join(map(str, case.patch)), *map(str, (case.batch, case.stages, case.channels, case.classes))]
    row += [f"{plain.training_flop / 1e9:.0f}", f"{plain.peak_bytes / 2**30:.2f}"]
    for key in ("training_flop", "saved_bytes", "peak_bytes", "forward_flop"):
        row += [f"{getattr(costs[name], key) / getattr(plain, key):.3f}" for name in MEASURED]
    return row


def predicted_volume(network: nn.Module, volume: torch.Tensor, patch: tuple[int, ...]) -> Any:
    """Logits of one volume (C, *S), patch by patch at half overlap with nnU-Net's weights, no mirroring."""
    steps = compute_steps_for_sliding_window(tuple(volume.shape[1:]), patch, 0.5)
    weight = compute_gaussian(
        tuple(patch), sigma_scale=1 / 8, value_scaling_factor=10, dtype=volume.dtype, device=volume.device
    )
    total: Any = 0
    for corner in torch.cartesian_prod(*(torch.tensor(axis) for axis in steps)).tolist():
        window = (slice(None), *(slice(start, start + size) for start, size in zip(corner, patch, strict=True)))
        logits = network(volume[window][None])[0]
        if isinstance(total, int):
            total = torch.zeros(logits.shape[0], *volume.shape[1:], device=volume.device)
        total[window] += logits * weight
    return total


def volume_rows(size: tuple[int, ...], case: Case, *, repeats: int, clock: str, device: str) -> list[list[str]]:
    """Seconds per volume of the plain and the guided networks, in turn."""
    networks = {name: make().eval().to(device) for name, make in case.networks().items()}
    for network in networks.values():
        network.decoder.deep_supervision = False  # type: ignore[union-attr]
    volume = torch.randn(case.channels, *size, device=device)
    times: dict[str, list[float]] = {name: [] for name in networks}
    half = torch.autocast("cuda", enabled=device == "cuda")  # as nnU-Net predicts
    with torch.inference_mode(), half:
        for _ in track(range(repeats), "predicting", console=console, transient=True):
            for name, network in networks.items():
                start = CLOCKS[clock]()
                predicted_volume(network, volume, case.patch)
                if device == "cuda":
                    torch.cuda.synchronize()
                times[name].append(CLOCKS[clock]() - start)
    rows = [["", "seconds per volume", "/ plain"]]
    for name, seconds in times.items():
        rows.append([name, f"{statistics.median(seconds):.2f}", time_ratio(seconds, times["plain"])])
    return rows


def sizes(text: str) -> tuple[int, ...]:
    """`64x64x64` as numbers."""
    return tuple(int(n) for n in text.split("x"))


EXAMPLES = """
Examples:

python benchmarks/scaling.py

python benchmarks/scaling.py --volume 96x96x96 --patch 64x64x64 --stages 5 --repeats 3 --threads 1 --clock processor
"""


@app.command(epilog=EXAMPLES)
def main(
    volume: Annotated[str | None, typer.Option(help="Predict a volume of this size, and count nothing.")] = None,
    patch: Annotated[str, typer.Option(help="Patch, with --volume.")] = "128x128x128",
    stages: Annotated[int, typer.Option(help="Stages, with --volume.")] = 6,
    keeper_features: Annotated[int | None, typer.Option(help="Of the keepers, in place of the presets'.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats, with --volume.")] = 3,
    device: Annotated[str, typer.Option("--device", "-device", help="cpu or cuda, with --volume.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    clock: Annotated[str, typer.Option(help="wall or processor; see overhead.py.")] = "wall",
) -> None:
    """Print the cost of plain nnU-Net and of guidance by the keepers and fusions of each preset."""
    set_up(clock=clock, device=device, threads=threads)
    if volume is not None:
        case = Case(patch=sizes(patch), stages=stages, keeper_features=keeper_features)
        rows = volume_rows(sizes(volume), case, repeats=repeats, clock=clock, device=device)
        console.print(markdown(rows), soft_wrap=True)
        return
    head = ["patch", "batch", "stages", "channels", "classes", "plain, training GFLOP", "plain, peak GiB"]
    for quantity in ("training FLOP", "activations", "peak", "prediction FLOP"):
        head += [f"{quantity}, {name}" for name in MEASURED]
    cases = dict.fromkeys(replace(c, keeper_features=keeper_features) for group in CASES.values() for c in group)
    rows = [counted_row(case) for case in track(list(cases), "counting", console=console, transient=True)]
    console.print(markdown([head, *rows]), soft_wrap=True)


if __name__ == "__main__":
    app()
