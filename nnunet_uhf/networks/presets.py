"""What a preset stands for: the fusion modules of a guided network, and how a keeper is built and trained.

``paper`` is arXiv 2402.08409 as it stands. ``reference`` has its networks and what nnU-Net's trainings made of the rest
(ours): fusions that start as the plain network and gate by a sigmoid, a larger learning rate that decays, noise on
half of the samples; docs/howto/pretraining_a_keeper.md holds the two against each other. ``efficient`` is made for
graphics cards: a keeper of another kind and fusions of matrix products, for at most 1.15 times the time and memory of
plain nnU-Net in training by the cost model of docs/BENCHMARKS.md (ours). ``light`` was made for CPUs, and chosen by
measurement there (ours); in version 0.1.0 it was called ``efficient``. A preset is chosen twice, since a keeper is made
once and serves many trainings: in dataset.json where the keeper is trained, and in plans or environment where it
guides. The keeper of any preset can guide with the fusions of any other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnunet_uhf.errors import UHFError

PRESET_VARIABLE = "nnUNet_UHF_PRESET"
FUSION_RATE = 3e-3
"""Of Adam (ours); what it brings in paired trainings: docs/BENCHMARKS.md."""
LARGEST_FUSION_RATE = 0.1


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What sets a preset apart.

    Attributes:
        fusion: the `fusion` entry of a guided block.
        network: kind of the keeper.
        keeper: arguments of keeper and teacher that differ from the paper's.
        teacher: arguments of the teacher alone that differ from the default.
        training: entries of `uhf.training` in dataset.json that it stands for, of teacher and keeper.
        fusion_rate: learning rate of the fusion modules at the start of a guided training.
    """

    fusion: Mapping[str, Any]
    network: str = "knowledge_keeper"
    keeper: Mapping[str, Any] = field(default_factory=dict)
    teacher: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    fusion_rate: float = FUSION_RATE


DEFAULT_PRESET = "reference"
PRESETS = {
    DEFAULT_PRESET: Preset(fusion={"init": "identity", "gate": "sigmoid"}),
    "efficient": Preset(
        fusion={"init": "identity", "kind": "pointwise", "reduction": 4},
        network="space_to_depth_unet",
        keeper={"width": 16},
    ),
    "light": Preset(
        fusion={"init": "identity", "gate": "sigmoid", "kind": "light", "reduction": [8, 4]},
        # one convolution, in 2D too: as it was measured
        keeper={"base_features": 8, "kernel_size": 3, "position_branch": False, "convolutions": 1},
    ),
    "paper": Preset(
        fusion={"init": "reference", "gate": "relu"},
        teacher={"noise_probability": 1.0},
        training={"learning_rate": 2e-4, "schedule": "constant"},
        fusion_rate=2e-4,
    ),
}


def present_name(preset: str, fusion: Mapping[str, Any]) -> str:
    """The name that a preset of an older file has now: what version 0.1.0 called efficient is called light."""
    return "light" if preset == "efficient" and fusion.get("kind") == "light" else preset


def guidance_preset(name: str | None = None) -> str:
    """The preset of a guidance by name; without one, that of the environment or the reference.

    Raises:
        UHFError: there is no preset of that name.
    """
    chosen = name or os.environ.get(PRESET_VARIABLE) or DEFAULT_PRESET
    if chosen not in PRESETS:
        origin = "--preset" if name else PRESET_VARIABLE
        raise UHFError(f"{origin} is {chosen!r}; choose one of {', '.join(PRESETS)}")
    return chosen


def is_fusion_rate(value: object) -> bool:
    """Whether fusions can be trained at this rate; 0 stands for the backbone's optimizer."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST_FUSION_RATE
