"""The cost model of a graphics card, against what was measured on one."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_uhf.guidance.memory import training_bytes
from nnunet_uhf.networks import card
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.presets import PRESETS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TOLERANCE = 0.30
# H100 80 GB, torch 2.11, fp16 autocast, eager, 2026-11-26: nnU-Net's default U-Net of 6 stages, 128x128x128, batch 2.
# Milliseconds of a forward pass and of forward and backward pass; None where it was not measured.
SMALL = {"kernel_size": 3, "position_branch": False}
MEASURED_MS: dict[str, tuple[float, float | None]] = {
    "plain": (22.4, 70.7),
    "reference": (93.2, 195.7),
    "light": (53.1, 137.3),
    "keeper, reference": (44.8, None),
    "keeper, nf 8, k 3": (18.7, None),
    "keeper, nf 16, k 3": (22.9, None),
    "keeper, nf 32, k 3": (28.3, None),
    "half resolution, reference": (11.5, None),
    "half resolution, nf 16, k 3": (6.8, None),
    "half resolution, nf 32, k 3": (6.8, None),
    "space to depth, U-Net 16": (4.1, None),
    "space to depth, U-Net 32": (4.6, None),
    "reference fusions": (22.5, 78.0),
    "reference fusion of stage 0": (16.2, 55.8),
    "reference fusion of stage 1": (4.0, 11.6),
    "reference fusion of stage 3": (2.3, 6.3),
    "light fusions": (10.9, 56.4),
    "light fusion of stage 0": (8.3, 39.2),
    "light fusion of stage 1": (1.6, 6.4),
    "light fusion of stage 3": (1.5, 5.1),
}


@cache
def modules() -> tuple[Any, Any, Any]:
    """The benchmark's modules, which lie in no package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return tuple(importlib.import_module(name) for name in ("gpu_costs", "overhead", "costs"))  # type: ignore[return-value]
    finally:
        sys.path.remove(str(BENCHMARKS))


def calls() -> dict[str, Callable[[], Any]]:
    """What was measured, as networks in half precision without content."""
    _, overhead, costs = modules()
    setting = costs.Setting((128, 128, 128), 2, 1, None)
    image, half = torch.empty(2, 1, 128, 128, 128).half(), torch.empty(2, 1, 64, 64, 64).half()
    folded = torch.empty(2, 8, 64, 64, 64).half()
    plain = overhead.default_network(setting, stages=6, features=32).half()
    runs: dict[str, Callable[[], Any]] = {"plain": lambda: plain(image)}
    for preset in ("reference", "light"):
        guided = overhead.guide(plain, setting, keeper=PRESETS[preset].keeper, fusion=PRESETS[preset].fusion).half()
        with torch.no_grad():
            guides, skips = guided.guides(image), [skip.requires_grad_() for skip in guided.encoder(image)]
        fusions = list(zip(guided.fusions, skips, strict=True))
        runs[preset] = lambda guided=guided: guided(image)
        runs[f"{preset} fusions"] = lambda fusions=fusions, guides=guides: [f(skip, guides) for f, skip in fusions]
        for stage in (0, 1, 3):
            fusion, skip = fusions[stage]
            runs[f"{preset} fusion of stage {stage}"] = lambda f=fusion, skip=skip, guides=guides: f(skip, guides)
    keepers = {"reference": {}, **{f"nf {nf}, k 3": {"base_features": nf, **SMALL} for nf in (8, 16, 32)}}
    for name, options in keepers.items():
        keeper: nn.Module = KnowledgeKeeper(dim=3, **options).half().eval()
        runs[f"keeper, {name}"] = lambda keeper=keeper: keeper(image)
        runs[f"half resolution, {name}"] = lambda keeper=keeper: keeper(half)
    for features in (16, 32):
        unet = overhead.default_network(costs.Setting((64, 64, 64), 2, 8, None), stages=5, features=features).half()
        unet.decoder.deep_supervision = False
        runs[f"space to depth, U-Net {features}"] = lambda unet=unet: unet(folded)
    return runs


@cache
def costs() -> dict[str, dict[str, Any]]:
    """Of the networks as they ran on the card, before the rewrites of `networks/card.py`."""
    gpu_costs, _, _ = modules()
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(card, "LARGE_MAP", math.inf)
        runs = calls()
        result: dict[str, dict[str, Any]] = {}
        for name, (_, training) in MEASURED_MS.items():
            result[name] = {"forward": gpu_costs.forward_cost(runs[name])}
            if training is not None:
                result[name]["training"] = gpu_costs.training_cost(runs[name])
    return result


@pytest.mark.parametrize("name", MEASURED_MS)
def test_the_model_gives_the_measured_times_back_within_30_percent(name: str) -> None:
    for kind, measured in zip(("forward", "training"), MEASURED_MS[name], strict=True):
        if measured is not None:
            modelled = 1e3 * costs()[name][kind].seconds()
            assert abs(modelled / measured - 1) < TOLERANCE, f"{kind}: {modelled:.1f} ms, measured {measured} ms"


# H200, torch 2.11, fp16 autocast, eager, 2026-11-27: the same U-Net, patch and batch, networks as they are now.
MEASURED_LATER_MS = {
    "plain": (22.0, 67.4),
    "reference": (64.6, 158.9),
    "light": (39.1, 95.2),
    "efficient": (25.4, 72.9),
}


PATCHES = {"3d": ((128, 128, 128), 2, 6), "2d": ((256, 256), 24, 7)}


def batch_and_network(name: str, patch: str) -> tuple[torch.Tensor, nn.Module]:
    """A batch and nnU-Net's default network, plain or guided by a preset, without content."""
    _, overhead, costs_ = modules()
    size, batch, stages = PATCHES[patch]
    setting = costs_.Setting(size, batch, 1, None)
    with torch.device("meta"):
        plain = overhead.default_network(setting, stages=stages, features=32).half()
        network = plain if name == "plain" else overhead.guide_by(name, plain, setting).half()
        return torch.empty(batch, 1, *size).half(), network


@pytest.mark.parametrize("name", MEASURED_LATER_MS)
def test_the_model_foretold_what_was_measured_later_in_3d(name: str) -> None:
    gpu_costs, _, _ = modules()
    image, network = batch_and_network(name, "3d")
    with torch.device("meta"):
        found = [cost(lambda: network(image)).seconds() for cost in (gpu_costs.forward_cost, gpu_costs.training_cost)]
    for modelled, measured in zip(found, MEASURED_LATER_MS[name], strict=True):
        assert abs(1e3 * modelled / measured - 1) < TOLERANCE


@pytest.mark.parametrize(
    ("preset", "patch", "training", "prediction", "memory"),
    [
        ("efficient", "3d", 1.15, 1.3, 1.15),
        ("efficient", "2d", 1.15, 1.3, 1.15),
        ("reference", "3d", 2.0, 2.5, 1.7),
    ],
)
def test_by_the_model_a_preset_keeps_its_goals_on_a_card(
    preset: str, patch: str, training: float, prediction: float, memory: float
) -> None:
    gpu_costs, _, _ = modules()
    (image, guided), (_, plain) = (batch_and_network(name, patch) for name in (preset, "plain"))
    networks = (guided, plain)
    with torch.device("meta"):
        steps = [gpu_costs.training_cost(lambda net=net: net(image)).seconds() for net in networks]
        passes = [gpu_costs.forward_cost(lambda net=net: net(image)).seconds() for net in networks]
        peaks = [training_bytes(net, image.shape) for net in networks]
    assert steps[0] / steps[1] <= training
    assert passes[0] / passes[1] <= prediction
    assert peaks[0] / peaks[1] <= memory
