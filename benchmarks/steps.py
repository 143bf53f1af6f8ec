"""How the light preset came about: what each step saves, and what was tried and left out, in one table.

With `--presets` the same table of the presets as they are. Every row is a guided network, as a ratio to the plain one.
Rows are timed in turn, repeat by repeat, so that a machine that grows slower hits all of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import typer
from costs import Bench, Call, Cost, Setting, counted, markdown, time_in_turn, time_ratio
from overhead import CLOCKS, default_network, guide, hardware, set_up
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunet_uhf.networks.blocks import ConvNd
from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK
from nnunet_uhf.networks.presets import PRESETS

REFERENCE, LIGHT_PRESET = PRESETS["reference"], PRESETS["light"]
PAPER = {"base_features": 16}
SINGLE = {**PAPER, "convolutions": 1}  # as the paper has in 3D
SMALL = {**LIGHT_PRESET.keeper, **PAPER}
LIGHT = LIGHT_PRESET.fusion
NARROW = {**LIGHT, "reduction": 8}

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class OneGuide(nn.Module):
    """Feed a fusion the guide of its own level alone; the others are silenced without any work."""

    def __init__(self, fusion: Any, level: int) -> None:
        super().__init__()
        self.fusion, self.level = fusion, level
        fusion.projections = nn.ModuleList([fusion.projections[level]])

    def forward(self, skip: Tensor, guides: Sequence[Tensor]) -> Tensor:
        """As the fusion."""
        fused: Tensor = self.fusion(skip, [guides[self.level]])
        return fused


class Recomputed(nn.Module):
    """Keep nothing of a fusion for the backward pass; compute it again there."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, skip: Tensor, guides: Sequence[Tensor]) -> Tensor:
        """As the fusion."""
        fused: Tensor = checkpoint(self._fuse, skip, *guides, use_reentrant=False)
        return fused

    def _fuse(self, skip: Tensor, *guides: Tensor) -> Any:
        return self.fusion(skip, guides)


class Unfused(nn.Module):
    """No fusion: the skip as it is."""

    def forward(self, skip: Tensor, _: Sequence[Tensor]) -> Tensor:
        """The skip."""
        return skip


class Halved(nn.Module):
    """A frozen keeper in bfloat16."""

    def __init__(self, keeper: Any) -> None:
        super().__init__()
        self.keeper = keeper

    def forward(self, source: Tensor) -> list[Tensor]:
        """As the keeper, in the source's precision again."""
        with torch.autocast("cuda" if source.is_cuda else "cpu", dtype=torch.bfloat16):
            guides = self.keeper(source)
        return [guide.to(source.dtype) for guide in guides]


def own_guide(net: UHFGuidedNet) -> None:
    """Each stage hears its own level only."""
    net.fusions = nn.ModuleList(OneGuide(f, min(stage, 4)) for stage, f in enumerate(net.fusions))


def recompute(net: UHFGuidedNet) -> None:
    """All fusions."""
    net.fusions = nn.ModuleList(Recomputed(fusion) for fusion in net.fusions)


def spare_finest(net: UHFGuidedNet) -> None:
    """No fusion at full resolution."""
    net.fusions[0] = Unfused()


def halve(net: UHFGuidedNet) -> None:
    """The keeper in bfloat16."""
    net.keeper = Halved(net.keeper)


def depthwise(layer: ConvNd, *, out_channels: int) -> ConvNd:
    """A convolution of the same kernel that takes each channel by itself."""
    channels = layer.in_channels
    return type(layer)(channels, out_channels, layer.kernel_size, padding=layer.padding, groups=channels, bias=False)


def depthwise_guides(net: UHFGuidedNet) -> None:
    """The light fusion's convolution over the guides."""
    for fusion in net.fusions:
        layer: Any = fusion.combine_guides
        fusion.combine_guides = depthwise(layer, out_channels=layer.out_channels)


def separable_keeper(net: UHFGuidedNet) -> None:
    """Every large convolution of the keeper as a depthwise one, followed by 1x1."""
    for module in list(net.keeper.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Conv2d | nn.Conv3d) and set(layer.kernel_size) == {7}:
                narrow = type(layer)(layer.in_channels, layer.out_channels, 1, bias=False)
                setattr(module, name, nn.Sequential(depthwise(layer, out_channels=layer.in_channels), narrow))
    net.keeper.requires_grad_(requires_grad=False)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row: a guided network, and the row it is held against."""

    name: str
    against: str
    keeper: Mapping[str, Any] = field(default_factory=lambda: PAPER)
    fusion: Mapping[str, Any] = field(default_factory=lambda: NARROW)
    change: Callable[[UHFGuidedNet], None] | None = None
    spacing_ratio: float | None = None
    network: str = DEFAULT_NETWORK


TAKEN = (
    Step(name="reference", against="", fusion=REFERENCE.fusion),
    Step(name="light fusion", against="reference"),
    Step(name="one convolution (2D)", against="light fusion", keeper=SINGLE),
    Step(name="keeper kernel 3", against="one convolution (2D)", keeper={**SINGLE, "kernel_size": 3}),
    Step(name="no position branch", against="keeper kernel 3", keeper=SMALL),
    Step(name="8 keeper features", against="no position branch", keeper=LIGHT_PRESET.keeper),
    Step(name="reduction 4 below: light", against="8 keeper features", keeper=LIGHT_PRESET.keeper, fusion=LIGHT),
)
_BASE = TAKEN[4].name
TRIED = (
    Step(name="4 keeper features", against=_BASE, keeper={**SMALL, "base_features": 4}),
    Step(name="fusion reduction 4", against=_BASE, keeper=SMALL, fusion={**NARROW, "reduction": 4}),
    Step(
        name="reduction 4, recomputed", against=_BASE, keeper=SMALL, fusion={**NARROW, "reduction": 4}, change=recompute
    ),
    Step(name="reduction 2 below", against=_BASE, keeper=SMALL, fusion={**NARROW, "reduction": [8, 2]}),
    Step(name="recomputed fusion", against=_BASE, keeper=SMALL, change=recompute),
    Step(name="own level's guide only", against=_BASE, keeper=SMALL, change=own_guide),
    Step(name="no fusion at the finest stage", against=_BASE, keeper=SMALL, change=spare_finest),
    Step(name="depthwise convolution of guides", against=_BASE, keeper=SMALL, change=depthwise_guides),
    Step(name="keeper in bfloat16", against=_BASE, keeper=SMALL, change=halve),
    Step(name="keeper kernel 7, separable", against="light fusion", change=separable_keeper),
    Step(name="keeper of twice the spacing", against="light fusion", spacing_ratio=0.5),
    Step(name="reference, not at the finest stage", against="reference", fusion=REFERENCE.fusion, change=spare_finest),
    Step(name="reference, recomputed", against="reference", fusion=REFERENCE.fusion, change=recompute),
)
OF_PRESETS = tuple(
    Step(
        name=name,
        against="" if name == "reference" else "reference",
        keeper=PRESETS[name].keeper,
        fusion=PRESETS[name].fusion,
        network=PRESETS[name].network,
    )
    for name in ("reference", "light", "efficient")
)


def build(step: Step, plain: nn.Module, setting: Setting) -> UHFGuidedNet:
    """The guided network of a row."""
    net = guide(
        plain,
        setting,
        keeper=step.keeper,
        fusion=step.fusion,
        network=step.network,
        spacing_ratio=step.spacing_ratio,
    )
    if step.change is not None:
        step.change(net)
    return net


def rows_of(costs: Mapping[str, Cost], steps: Sequence[Step]) -> list[list[str]]:
    """A table, head first: ratios to the plain network, and what a row takes off the one it is held against."""
    rows = [
        ["", "parameters, M", "FLOP, forward", "training", "activations", "peak memory", "time, forward", "training"]
    ]
    rows[0] += ["saves", "of"]
    plain = costs["plain"]
    keys = ("forward_flop", "training_flop", "saved_bytes", "peak_bytes")
    median = {
        name: statistics.median(a / b for a, b in zip(cost.training_s, plain.training_s, strict=True))
        for name, cost in costs.items()
    }
    for step in steps:
        cost = costs[step.name]
        counted = [f"{getattr(cost, key) / getattr(plain, key):.3f}" for key in keys]
        times = [time_ratio(getattr(cost, key), getattr(plain, key)) for key in ("forward_s", "training_s")]
        saved = f"{median[step.against] - median[step.name]:+.2f}" if step.against else ""
        rows.append([step.name, f"{cost.parameters / 1e6:.2f}", *counted, *times, saved, step.against])
    return rows


EXAMPLES = """
Examples:

python benchmarks/steps.py --patch 48x48x48 --repeats 5 --threads 1 --clock processor

python benchmarks/steps.py --patch 160x160 --batch 4 --stages 6 --taken

python benchmarks/steps.py --patch 48x48x48 --presets --threads 1 --clock processor
"""


@app.command(epilog=EXAMPLES)
def main(
    patch: Annotated[str, typer.Option(help="Patch of nnU-Net's default U-Net, two or three axes.")] = "48x48x48",
    stages: Annotated[int, typer.Option(help="Its stages.")] = 5,
    features: Annotated[int, typer.Option(help="Features of its first stage.")] = 32,
    batch: Annotated[int, typer.Option(help="Batch size.")] = 2,
    taken: Annotated[
        bool, typer.Option("--taken", help="Only the steps of the preset, not what was left out.")
    ] = False,
    presets: Annotated[bool, typer.Option("--presets", help="The presets in place of the steps.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats.")] = 5,
    device: Annotated[str, typer.Option("--device", "-device", help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    clock: Annotated[str, typer.Option(help="wall or processor; see overhead.py.")] = "wall",
) -> None:
    """Print what every step from the reference to the light preset, or every preset, costs and saves."""
    set_up(clock=clock, device=device, threads=threads)
    target = torch.device(device)
    setting = Setting(tuple(int(n) for n in patch.split("x")), batch, 1, None)
    plain = default_network(setting, stages=stages, features=features)
    steps = OF_PRESETS if presets else TAKEN if taken else TAKEN + TRIED
    makers = {"plain": lambda: deepcopy(plain)} | {s.name: lambda s=s: build(s, plain, setting) for s in steps}
    costs = {name: counted(make(), setting) for name, make in makers.items()}
    image = torch.randn(batch, 1, *setting.patch, device=target)
    networks = {name: make().to(target) for name, make in makers.items()}
    calls = {name: Call(net, lambda net=net: net(image)) for name, net in networks.items()}
    bench = Bench(calls, device=target, precision="fp16" if device == "cuda" else "fp32", clock=CLOCKS[clock])
    time_in_turn(bench, costs, repeats=track(range(repeats), "measuring", console=console, transient=True))
    seconds = [statistics.median(times) for times in (costs["plain"].forward_s, costs["plain"].training_s)]
    console.print(
        f"patch {patch}, batch {batch}, {hardware(target)}, torch {torch.__version__}, {repeats} repeats, {clock} "
        f"time; plain: forward {seconds[0]:.2f} s, training step {seconds[1]:.2f} s; ratios to it, time as median "
        "(smallest-largest); saves: of the training step\n"
    )
    console.print(markdown(rows_of(costs, steps)), soft_wrap=True)


if __name__ == "__main__":
    app()
