"""Memory for the guidance, taken from batch and patch when plans are written: a plan for 8 GB stays one (ours).

nnU-Net plans batch and patch for a graphics card and the plain network. What guidance adds is taken back as the planner
would: the batch first, never below two, then the patch, by its rule for the axis and for the network's stages.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.memory import training_bytes
from nnunet_uhf.networks.guided.network import build_guided_net
from nnunet_uhf.nnunet.plans_block import block_of, put_block

MIN_BATCH = 2
MIN_EDGE = 4
"""Shortest edge of the deepest feature map: nnU-Net's planners."""
UNLIMITED = 999_999
NEGLIGIBLE = 1.03
"""Guidance that takes no more than this is not taken back: nnU-Net's own estimate is not that exact, and the next
smaller patch would take a tenth."""


def with_room(
    plans: Mapping[str, Any], blocks: Mapping[str, GuidedBlock], dataset_json: Mapping[str, Any]
) -> dict[str, Any]:
    """Return guided plans whose batches, and where needed patches, leave room for the guidance.

    What was planned for plain nnU-Net is kept in the block as ``planned``; preprocessed data stay valid.

    Args:
        plans: untouched.
        blocks: guided ``uhf`` blocks by the name of their configuration; the new plans carry them.
        dataset_json: for the channels and labels.

    Raises:
        UHFError: not even the smallest patch makes room.
    """
    new = copy.deepcopy(dict(plans))
    for name, block in blocks.items():
        settings, changes = _changes(plans, name, block, dataset_json)
        planned = {key: settings[key] for key in changes if key != "architecture"}
        put_block(new, name, replace(block, planned=planned).as_json(), **changes)
    return new


def _changes(
    plans: Mapping[str, Any], configuration: str, block: GuidedBlock, dataset_json: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration's settings, and the entries among them that must change."""
    settings, build = _builder(plans, configuration, dataset_json)
    architecture, patch, batch = settings["architecture"], list(settings["patch_size"]), settings["batch_size"]
    limit = _step_bytes(build(architecture), build.channels, patch, batch)
    least = min(batch, MIN_BATCH)
    while True:
        with torch.device("meta"):
            guided = build_guided_net(build(architecture), block.spec)
        memory = cache(partial(_step_bytes, guided, build.channels, patch))
        if patch == settings["patch_size"] and memory(batch) <= limit * NEGLIGIBLE:
            return settings, {}
        fitting = _largest_batch(memory, batch, least=least, limit=limit)
        if fitting is not None:
            break
        patch, architecture = _smaller(patch, architecture, settings, where=configuration)
    changes: dict[str, Any] = {"batch_size": fitting, "patch_size": patch, "architecture": architecture}
    return settings, {key: value for key, value in changes.items() if value != settings[key]}


def reserve_notes(plans: Mapping[str, Any]) -> list[str]:
    """What each configuration has less of than planned for plain nnU-Net, one line each; none where it has not."""
    notes = []
    for name, entry in plans["configurations"].items():
        found = block_of(entry)
        block = None if found is None else GuidedBlock.parse(found, where=f"plans {plans['plans_name']}, {name}")
        if block is not None and block.planned:
            changes = [f"{key} {_written(was)} -> {_written(entry[key])}" for key, was in block.planned.items()]
            notes.append(
                f"{name}: {', '.join(changes)}, so that guidance fits into the memory planned for plain nnU-Net "
                "(--no-reserve keeps the plan)"
            )
    return notes


class _Builder:
    """Builds the plain network of an architecture on the meta device."""

    def __init__(self, channels: int, heads: int) -> None:
        self.channels, self.heads = channels, heads

    def __call__(self, architecture: Mapping[str, Any]) -> nn.Module:
        with torch.device("meta"):
            network: nn.Module = get_network_from_plans(
                architecture["network_class_name"],
                architecture["arch_kwargs"],
                architecture["_kw_requires_import"],
                self.channels,
                self.heads,
                allow_init=False,
                deep_supervision=True,
            )
        return network


def _builder(
    plans: Mapping[str, Any], configuration: str, dataset_json: Mapping[str, Any]
) -> tuple[dict[str, Any], _Builder]:
    manager = PlansManager(copy.deepcopy(dict(plans)))
    planned = manager.get_configuration(configuration)
    channels = determine_num_input_channels(manager, planned, dataset_json)
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    settings: dict[str, Any] = planned.configuration
    return settings | {"patch_size": list(settings["patch_size"])}, _Builder(channels, heads)


def _step_bytes(network: nn.Module, channels: int, patch: list[int], batch: int) -> int:
    return training_bytes(network, (batch, channels, *patch))


def _largest_batch(memory: Callable[[int], int], batch: int, *, least: int, limit: int) -> int | None:
    """The largest batch from ``least`` to ``batch`` whose memory is within the limit; None when there is none."""
    fitting, too_large = batch, batch + 1
    while (needed := memory(fitting)) > limit:
        if fitting == least:
            return None
        too_large = fitting
        fitting = max(least, min(fitting - 1, fitting * limit // needed))
    while fitting + 1 < too_large and memory(fitting + 1) <= limit:
        fitting += 1
    return fitting


def _smaller(
    patch: list[int], architecture: Mapping[str, Any], settings: Mapping[str, Any], *, where: str
) -> tuple[list[int], dict[str, Any]]:
    """The planner's next smaller patch, and the architecture for it."""
    strides = [list(step) for step in architecture["arch_kwargs"]["strides"]]
    total = [math.prod(steps) for steps in zip(*strides, strict=True)]
    spacing, median = settings["spacing"], settings["median_image_size_in_voxels"]
    axis = max(range(len(patch)), key=lambda a: patch[a] / median[a])
    shrunk = [size - step * (a == axis) for a, (size, step) in enumerate(zip(patch, total, strict=True))]
    if shrunk[axis] < 2 * MIN_EDGE:  # it could not be halved once
        raise UHFError(
            f"configuration {where}: no patch leaves room for the guidance within the memory planned for plain "
            "nnU-Net; use the efficient preset, or keep the plan (--no-reserve) on a larger card"
        )
    planned_strides, _, _ = _topology(spacing, patch)
    if planned_strides != strides:  # stages set by hand: they stay
        return shrunk, dict(architecture)
    # as in the planner: a smaller patch may have fewer stages, hence finer steps
    step = get_pool_and_conv_props(spacing, shrunk, MIN_EDGE, UNLIMITED)[4][axis]
    shrunk = [size - int(step) * (a == axis) for a, size in enumerate(patch)]
    new_strides, kernels, new_patch = _topology(spacing, shrunk)
    return new_patch, _with_stages(architecture, new_strides, kernels)


def _topology(spacing: Any, patch: list[int]) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Strides, kernels and the padded patch that nnU-Net plans."""
    _, strides, kernels, padded, _ = get_pool_and_conv_props(spacing, patch, MIN_EDGE, UNLIMITED)
    return [list(step) for step in strides], [list(kernel) for kernel in kernels], [int(size) for size in padded]


def _with_stages(architecture: Mapping[str, Any], strides: list[list[int]], kernels: list[list[int]]) -> dict[str, Any]:
    """The architecture with the first stages only: lists of one entry a stage, or a decoder stage, are cut."""
    old, new = len(architecture["arch_kwargs"]["strides"]), len(strides)
    cut = {old: new, old - 1: new - 1}
    arguments = {
        name: value[: cut[len(value)]] if isinstance(value, list | tuple) and len(value) in cut else value
        for name, value in architecture["arch_kwargs"].items()
    }
    return {**architecture, "arch_kwargs": {**arguments, "n_stages": new, "strides": strides, "kernel_sizes": kernels}}


def _written(value: int | list[int]) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
