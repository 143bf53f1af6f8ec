"""What guidance costs: a guided network against the plain one nnU-Net plans, in one run.

Times come from interleaved repeats (plain, guided, keeper, fusions, plain, ...), so that a machine that grows slower
hits all of them. Times are medians; a ratio is taken within each repeat and given as median (smallest-largest).
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from costs import PARTS, Cost, Setting, markdown, measure, parts_bench, time_ratio
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from gpu_costs import parts_costs
from gpu_costs import rows_of as gpu_rows
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from nnunet_uhf.networks.distillation.levels import level_strides
from nnunet_uhf.networks.guided.network import UHFGuidedNet, build_guided_net
from nnunet_uhf.networks.guided.spec import GuidanceSpec, KeeperSpec
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK, KINDS
from nnunet_uhf.networks.presets import PRESETS
from nnunet_uhf.networks.space_to_depth.keeper import steps_for
from nnunet_uhf.networks.space_to_depth.kind import KIND as SPACE_TO_DEPTH_UNET

CLASSES = 4
STRIDES = {DEFAULT_NETWORK: level_strides, SPACE_TO_DEPTH_UNET.name: steps_for}
"""Of a keeper's levels, by the kind of network."""
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
COUNTED = (
    ("parameters, M", "parameters", 1e6),
    ("forward, GFLOP", "forward_flop", 1e9),
    ("+ backward, GFLOP", "training_flop", 1e9),
    ("activations, MiB", "saved_bytes", 2**20),
    ("peak memory, MiB", "peak_bytes", 2**20),
)

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def planned_network(plans: Path, configuration: str) -> tuple[nn.Module, Setting]:
    """The network that nnU-Net builds from a plans file, with deep supervision as in training."""
    manager = PlansManager(json.loads(plans.read_text())).get_configuration(configuration)
    channels = len(manager.normalization_schemes)
    network = get_network_from_plans(
        manager.network_arch_class_name,
        manager.network_arch_init_kwargs,
        manager.network_arch_init_kwargs_req_import,
        channels,
        CLASSES,
        deep_supervision=True,
    )
    return network, Setting(tuple(manager.patch_size), manager.batch_size, channels, tuple(manager.spacing))


def default_network(setting: Setting, *, stages: int, features: int, classes: int = CLASSES) -> nn.Module:
    """nnU-Net's default U-Net: features doubled up to 320 (3D) or 512 (2D), two convolutions a stage."""
    flat = len(setting.patch) == 2
    return PlainConvUNet(
        setting.in_channels,
        n_stages=stages,
        features_per_stage=[min(features * 2**stage, 512 if flat else 320) for stage in range(stages)],
        conv_op=nn.Conv2d if flat else nn.Conv3d,
        kernel_sizes=3,
        strides=[1] + [2] * (stages - 1),
        n_conv_per_stage=2,
        num_classes=classes,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d if flat else nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )


def guide(
    plain: nn.Module,
    setting: Setting,
    *,
    keeper: Mapping[str, Any],
    fusion: Mapping[str, Any],
    network: str = DEFAULT_NETWORK,
    spacing_ratio: float | None = None,
) -> UHFGuidedNet:
    """The guided twin of a network; `keeper` are arguments of it, `fusion` is the entry of a guided block."""
    dim = len(setting.patch)
    steps = STRIDES[network](dim, spacing=setting.spacing_mm)
    with torch.device("meta"):
        architecture = KINDS[network].keeper(dim=dim, strides=steps, **keeper).config()
    spec = GuidanceSpec(
        keeper=KeeperSpec(architecture=architecture, network=network),
        spacing_ratio=None if spacing_ratio is None else [spacing_ratio] * dim,
        fusion=fusion,
    )
    return build_guided_net(deepcopy(plain), spec)


def guide_by(preset: str, plain: nn.Module, setting: Setting, **keeper: Any) -> UHFGuidedNet:
    """The guided twin of a network by a preset; ``keeper`` are arguments of the keeper that differ from it."""
    chosen = PRESETS[preset]
    arguments = {**chosen.keeper, **keeper}
    return guide(plain, setting, keeper=arguments, fusion=chosen.fusion, network=chosen.network)


def table_of(costs: Mapping[str, Cost], title: str) -> Table:
    """One row per quantity; plain, guided, the parts of the guidance, and guided / plain."""
    times = {"forward, s": "forward_s", "+ backward, s": "training_s"}
    widest = max((max(t) - min(t)) / statistics.median(t) for c in costs.values() for t in (c.forward_s, c.training_s))
    table = Table(title=title, caption=f"a time varied by at most {100 * widest:.0f} % over its repeats")
    for name in ("", "plain", "guided", "keeper", "fusions", "guided / plain"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for label, key, unit in COUNTED:
        values = {part: getattr(costs[part], key) / unit for part in PARTS}
        if values["plain"]:
            ratio = values["guided"] / values["plain"]
            table.add_row(label, *(f"{values[part]:.2f}" for part in PARTS), f"{ratio:.2f}")
    for label, key in times.items():
        repeats = {part: getattr(costs[part], key) for part in PARTS}
        spread = time_ratio(repeats["guided"], repeats["plain"])
        table.add_row(label, *(f"{statistics.median(repeats[part]):.3f}" for part in PARTS), spread)
    return table


def hardware(device: torch.device) -> str:
    """The machine in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


EXAMPLES = """
Examples:

python benchmarks/overhead.py --patch 64x64x64 --repeats 5 --preset efficient

python benchmarks/overhead.py --patch 64x64x64 --preset light --keeper-features 16

python benchmarks/overhead.py --plans nnUNetPlans.json -c 3d_fullres --device cuda --json out.json
"""


def set_up(*, clock: str, device: str, threads: int) -> None:
    """Seed and threads of a benchmark; typer.BadParameter for a clock that cannot measure what it shall."""
    if clock not in CLOCKS or (clock == "processor" and (device != "cpu" or threads != 1)):
        raise typer.BadParameter("--clock is wall, or processor together with --device cpu --threads 1")
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)


@app.command(epilog=EXAMPLES)
def main(
    plans: Annotated[Path | None, typer.Option(help="nnU-Net plans file to take the network from.")] = None,
    configuration: Annotated[str, typer.Option("-c", help="Configuration of the plans.")] = "3d_fullres",
    patch: Annotated[str, typer.Option(help="Patch of the default U-Net, two or three axes.")] = "64x64x64",
    stages: Annotated[int, typer.Option(help="Stages of the default U-Net.")] = 5,
    features: Annotated[int, typer.Option(help="Features of its first stage.")] = 32,
    batch: Annotated[int, typer.Option(help="Batch size of the default U-Net.")] = 2,
    preset: Annotated[str, typer.Option(help=f"Of fusions and keeper: {', '.join(PRESETS)}.")] = "reference",
    keeper_features: Annotated[int | None, typer.Option(help="Of the keeper's first level, not the preset's.")] = None,
    keeper_kernel: Annotated[int | None, typer.Option(help="Of the keeper, in place of the preset's.")] = None,
    device: Annotated[str, typer.Option("--device", "-device", help="cpu or cuda.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or bf16; auto is nnU-Net's: fp16 on CUDA, else fp32.")
    ] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile both networks.")] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Both networks in that layout.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    clock: Annotated[
        str, typer.Option(help="wall; or processor: time this process computed, for a busy machine (CPU, one thread).")
    ] = "wall",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
) -> None:
    """Compare a guided with a plain network: time, memory, parameters and FLOPs, per part and as ratios."""
    if preset not in PRESETS or precision not in ("auto", "fp32", "fp16", "bf16"):
        raise typer.BadParameter("unknown --preset or --precision; see --help")
    set_up(clock=clock, device=device, threads=threads)
    torch.backends.cudnn.benchmark = True
    target = torch.device(device)
    if plans is not None:
        plain, setting = planned_network(plans, configuration)
    else:
        setting = Setting(tuple(int(n) for n in patch.split("x")), batch, 1, None)
        plain = default_network(setting, stages=stages, features=features)
    if precision == "auto":
        precision = "fp16" if target.type == "cuda" else "fp32"
    asked = {"base_features": keeper_features, "kernel_size": keeper_kernel}
    asked_of_keeper = {name: value for name, value in asked.items() if value is not None}
    guided = guide_by(preset, plain, setting, **asked_of_keeper)
    if channels_last:
        layout = torch.channels_last if len(setting.patch) == 2 else torch.channels_last_3d
        plain, guided = plain.to(memory_format=layout), guided.to(memory_format=layout)
    modelled = gpu_rows(parts_costs(plain, guided, setting), setting)
    bench = parts_bench(
        plain, guided, setting, device=target, precision=precision, compiled=compiled, clock=CLOCKS[clock]
    )
    costs = measure(bench, repeats=track(range(repeats), "measuring", console=console, transient=True))
    size = "x".join(map(str, setting.patch))
    machine = (
        f"{hardware(target)}, torch {torch.__version__}, {precision}{', compiled' if compiled else ''}"
        f"{', channels last' if channels_last else ''}, {clock} time"
    )
    console.print(table_of(costs, f"patch {size}, batch {setting.batch}, {preset}, {repeats} repeats\n{machine}"))
    console.print(
        "\nOn a graphics card, by the cost model of gpu_costs.py: half precision, not compiled, not measured\n"
    )
    console.print(markdown(modelled), soft_wrap=True)
    if json_file is not None:
        report = {
            "date": date.today().isoformat(),
            "hardware": machine,
            "preset": preset,
            "keeper": {**PRESETS[preset].keeper, **asked_of_keeper},
            **asdict(setting),
            "costs": {part: asdict(cost) for part, cost in costs.items()},
        }
        json_file.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    app()
