"""What guidance costs in nnU-Net's own training step, guided against plain, on a graphics card.

Each trainer is the one that users run, on nnU-Net's default network with a random batch: its train_step (Dice and cross
entropy with deep supervision, gradient scaler, clip, optimizer), and its network without gradient, as in prediction.
Steps are interleaved (plain, reference, .., plain, ..): a card that grows slower hits all of them. With `--compile`
networks are compiled as nnU-Net does where nothing is asked, and the first step says what that takes.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from costs import markdown, time_ratio
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from overhead import STRIDES, hardware
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

from nnunet_uhf.guidance.keeper_files import KEEPER_VARIABLE
from nnunet_uhf.keepers.file import read_header, write_keeper
from nnunet_uhf.keepers.untrained import write_untrained_keeper
from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.networks.kinds import KINDS
from nnunet_uhf.networks.presets import PRESET_VARIABLE, PRESETS
from nnunet_uhf.trainers import UHFTrainer
from nnunet_uhf.trainers.base import unwrap

CLASSES = 4
CONFIGURATION = {2: "2d", 3: "3d_fullres"}
UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class Measured:
    """Of one trainer; seconds, one for each repeat, and bytes of the device's memory."""

    first_step_s: float = 0.0
    step_s: list[float] = field(default_factory=list)
    first_forward_s: float = 0.0
    forward_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    kernels: int = 0
    kernel_s: float = 0.0
    parts_s: dict[str, list[float]] = field(default_factory=dict)


def plans_of(patch: Sequence[int], batch: int, stages: int, features: int) -> dict[str, Any]:
    """Plans such as nnU-Net makes them, of its default U-Net."""
    dim = len(patch)
    widths = [min(features * 2**stage, 512 if dim == 2 else 320) for stage in range(stages)]
    names = {"conv_op": f"torch.nn.modules.conv.Conv{dim}d", "dropout_op": None, "nonlin": "torch.nn.LeakyReLU"}
    names["norm_op"] = f"torch.nn.modules.instancenorm.InstanceNorm{dim}d"
    network = {
        "n_stages": stages, "features_per_stage": widths, "kernel_sizes": [[3] * dim] * stages,
        "strides": [[1] * dim, *[[2] * dim] * (stages - 1)], "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1), "conv_bias": True, "dropout_op_kwargs": None,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin_kwargs": {"inplace": True}, **names,
    }  # fmt: skip
    resampling = {f"resampling_fn_{kind}_kwargs": RESAMPLING for kind in ("data", "seg", "probabilities")}
    resampling |= {f"resampling_fn_{k}": "resample_data_or_seg_to_shape" for k in ("data", "seg", "probabilities")}
    configuration = {
        "data_identifier": "card", "preprocessor_name": "DefaultPreprocessor", "batch_size": batch,
        "patch_size": list(patch), "median_image_size_in_voxels": list(patch), "spacing": [1.0] * dim,
        "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False], "batch_dice": dim == 2,
        "architecture": {"network_class_name": UNET, "arch_kwargs": network, "_kw_requires_import": list(names)},
        **resampling,
    }  # fmt: skip
    return {
        "dataset_name": "Dataset999_Card", "plans_name": "nnUNetPlans", "continue_training": False,
        "original_median_spacing_after_transp": [1.0] * 3, "original_median_shape_after_transp": [patch[-1]] * 3,
        "image_reader_writer": "SimpleITKIO", "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION[dim]: configuration}, "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": dict.fromkeys(STATISTICS, 1.0)},
    }  # fmt: skip


STATISTICS = ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")
DATASET = {
    "channel_names": {"0": "T1w"},
    "labels": {"background": 0, **{f"structure {n}": n for n in range(1, CLASSES)}},
    "numTraining": 5,
    "file_ending": ".nii.gz",
}


def untrained_keeper(preset: str, dim: int, folder: Path) -> Path:
    """The file of a keeper as a preset builds it, with random weights."""
    chosen, path = PRESETS[preset], folder / f"{preset}.safetensors"
    strides = STRIDES[chosen.network](dim, spacing=None)
    keeper = KINDS[chosen.network].keeper(dim=dim, strides=strides, **chosen.keeper)
    header = read_header(write_untrained_keeper(path, dim=dim))
    header = replace(header, architecture=keeper.config(), decoder_architecture=None, network=chosen.network)
    write_keeper(path, header=header, keeper_state=keeper.state_dict())
    return path


class Trained:
    """A trainer of nnU-Net's on a device, with a random batch and what it costs.

    Args:
        preset: of the guidance; None for plain nnU-Net.
        plans: as :func:`plans_of` makes them.
        folder: for the keeper's file.
        device: of network and batch.
    """

    def __init__(self, preset: str | None, plans: dict[str, Any], folder: Path, device: torch.device) -> None:
        ((configuration, described),) = plans["configurations"].items()
        patch, batch = described["patch_size"], described["batch_size"]
        self.device, self.cost, self.others = device, Measured(), allocated(device)
        variables = {}
        if preset is not None:
            keeper = untrained_keeper(preset, len(patch), folder)
            variables = {KEEPER_VARIABLE: str(keeper), PRESET_VARIABLE: preset}
        torch.manual_seed(0)
        with mock.patch.dict(os.environ, variables), silent():
            cls = nnUNetTrainer if preset is None else UHFTrainer
            trainer: Any = cls(copy.deepcopy(plans), configuration, 0, copy.deepcopy(DATASET), device)
            trainer.initialize()
        self.trainer = trainer
        shapes = [[int(size * part) for size, part in zip(patch, scale, strict=True)] for scale in self.scales()]
        self.image = torch.randn(batch, 1, *patch, device=device)
        self.target = [torch.randint(CLASSES, (batch, 1, *shape), device=device).float() for shape in shapes]

    def scales(self) -> list[list[float]]:
        """Of the outputs of deep supervision."""
        found: list[list[float]] = self.trainer._get_deep_supervision_scales()
        return found

    def step(self) -> None:
        """nnU-Net's own."""
        self.trainer.network.train()
        self.trainer.train_step({"data": self.image, "target": self.target})

    def forward(self) -> None:
        """The batch through the network, as in prediction but for its size."""
        self.trainer.network.eval()
        with torch.no_grad(), self.autocast():
            self.trainer.network(self.image)

    def autocast(self) -> Any:
        """As nnU-Net: on a card alone."""
        return torch.autocast(self.device.type, enabled=self.device.type == "cuda")

    def parts(self) -> dict[str, Callable[[], Any]]:
        """What guidance adds to a forward pass, by part: the keeper, and the fusion of each stage."""
        network = unwrap(self.trainer.network)
        if not isinstance(network, UHFGuidedNet):
            return {}
        with torch.no_grad(), self.autocast():
            guides, skips = network.guides(self.image), network.encoder(self.image)
        fusions = {
            f"fusion {stage}": lambda fusion=fusion, skip=skip: fusion(skip, guides)
            for stage, (fusion, skip) in enumerate(zip(network.fusions, skips, strict=True))
        }
        return {"keeper": lambda: network.guides(self.image), **fusions}

    def seconds(self, run: Callable[[], Any]) -> float:
        """Of one call, waited for."""
        wait(self.device)
        start = time.perf_counter()
        run()
        wait(self.device)
        return time.perf_counter() - start

    def first(self) -> None:
        """What the first calls take, and the peak of memory of a later step."""
        self.cost.first_step_s = self.seconds(self.step)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()  # the first step tries convolutions that need more
        self.step()
        if self.device.type == "cuda":
            self.cost.peak_bytes = torch.cuda.max_memory_allocated() - self.others
        self.cost.first_forward_s = self.seconds(self.forward)

    def profiled(self) -> None:
        """Kernels of one step and their time on the card."""
        self.step()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            self.step()
            wait(self.device)
        kernels = [event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        self.cost.kernels = len(kernels)
        self.cost.kernel_s = sum(event.device_time_total for event in kernels) / 1e6


@contextmanager
def silent() -> Iterator[None]:
    """nnU-Net prints what it is asked to cite."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def wait(device: torch.device) -> None:
    """CUDA works ahead of Python."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def allocated(device: torch.device) -> int:
    """Bytes of a card that living tensors take; 0 on a CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def made(presets: Sequence[str], plans: dict[str, Any], folder: Path, device: torch.device) -> dict[str, Trained]:
    """All trainers, each with its first steps behind it."""
    found = {}
    for preset in (None, *presets):
        one = Trained(preset, plans, folder, device)
        one.first()
        found[preset or "plain"] = one
    return found


def measure(trainers: dict[str, Trained], repeats: int, *, parts: bool) -> None:
    """Times of interleaved repeats, and with `parts` what a step is made of."""
    for _ in range(repeats):
        for one in trainers.values():
            one.cost.step_s.append(one.seconds(one.step))
        for one in trainers.values():
            one.cost.forward_s.append(one.seconds(one.forward))
    for one in trainers.values() if parts else ():
        if one.device.type == "cuda":
            one.profiled()
        with torch.no_grad(), one.autocast():
            for name, run in one.parts().items():
                run()
                one.cost.parts_s[name] = [one.seconds(run) for _ in range(repeats)]


def rows_of(costs: dict[str, Measured]) -> list[list[str]]:
    """A table, head first: milliseconds, GiB, and ratios to plain within each repeat."""
    head = ["", "first step, s", "training step, ms", "ratio", "forward, ms", "ratio", "peak, GiB", "ratio"]
    rows, plain = [[*head, "kernels", "their time, ms"]], costs["plain"]
    for name, cost in costs.items():
        memory = f"{cost.peak_bytes / plain.peak_bytes:.2f}" if plain.peak_bytes else ""
        rows.append(
            [
                name, f"{cost.first_step_s:.1f}", ms(cost.step_s), time_ratio(cost.step_s, plain.step_s),
                ms(cost.forward_s), time_ratio(cost.forward_s, plain.forward_s), f"{cost.peak_bytes / 2**30:.2f}",
                memory, str(cost.kernels), f"{1e3 * cost.kernel_s:.1f}",
            ]
        )  # fmt: skip
    return rows


def ms(seconds: Sequence[float]) -> str:
    """Median in milliseconds."""
    return f"{1e3 * statistics.median(seconds):.1f}"


EXAMPLES = """
Examples:

python benchmarks/card.py --patch 128x128x128 --batch 2 --stages 6

python benchmarks/card.py --patch 256x256 --batch 24 --stages 7 --presets efficient --compile
"""


@app.command(epilog=EXAMPLES)
def main(
    patch: Annotated[str, typer.Option(help="Patch, two or three axes.")] = "128x128x128",
    batch: Annotated[int, typer.Option(help="Batch size.")] = 2,
    stages: Annotated[int, typer.Option(help="Stages of nnU-Net's default network.")] = 6,
    features: Annotated[int, typer.Option(help="Features of its first stage.")] = 32,
    presets: Annotated[str, typer.Option(help="Of the guided trainings.")] = "reference,light,efficient",
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats.")] = 12,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile as nnU-Net does; no parts then.")] = False,
    device: Annotated[str, typer.Option("-device", help="cuda, or cpu to try the script.")] = "cuda",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
) -> None:
    """Print what a training step and a forward pass take, plain and guided, and how much memory."""
    target = torch.device(device)
    torch.backends.cudnn.benchmark = True  # as nnUNetv2_train
    plans = plans_of([int(size) for size in patch.split("x")], batch, stages, features)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = {f"nnUNet_{kind}": str(folder / kind) for kind in ("raw", "preprocessed", "results")}
        cases = folder / "preprocessed" / plans["dataset_name"] / "card"
        cases.mkdir(parents=True)
        (cases / "none.b2nd").touch()  # by which nnU-Net knows how cases are stored
        with mock.patch.dict(os.environ, {**own, "nnUNet_compile": "t" if compiled else "f"}):
            trainers = made(presets.split(","), plans, folder, target)
            measure(trainers, repeats, parts=not compiled)
    costs = {preset: one.cost for preset, one in trainers.items()}
    machine = f"{hardware(target)}, torch {torch.__version__}{', compiled' if compiled else ''}"
    console.print(f"patch {patch}, batch {batch}, {stages} stages, {repeats} repeats, {machine}\n", markup=False)
    console.print(markdown(rows_of(costs)), soft_wrap=True)
    for preset, cost in costs.items():
        if cost.parts_s:
            listed = ", ".join(f"{part} {ms(times)}" for part, times in cost.parts_s.items())
            console.print(f"\n{preset}, forward of the parts, ms: {listed}", markup=False, soft_wrap=True)
    if json_file is not None:
        size = {"patch": patch, "batch": batch, "stages": stages, "features": features}
        report = {"date": date.today().isoformat(), "hardware": machine, **size}
        json_file.write_text(json.dumps({**report, "costs": {k: asdict(v) for k, v in costs.items()}}, indent=1))


if __name__ == "__main__":
    app()
