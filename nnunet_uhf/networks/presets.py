"""What a preset stands for: the fusion modules of a guided network, and how a keeper is built (ours).

``reference`` follows the paper. ``efficient`` was chosen by measurement (docs/BENCHMARKS.md): guidance for at most
1.15 times the time and memory of plain nnU-Net in training, as accurate as the reference as far as could be told. A
preset is chosen twice, since a keeper is made once and serves many trainings: in dataset.json where the keeper is
trained, and in plans or environment where it guides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_uhf.errors import UHFError

PRESET_VARIABLE = "nnUNet_UHF_PRESET"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The `fusion` entry of a guided block, and arguments of the keeper that differ from the paper's."""

    fusion: Mapping[str, Any]
    keeper: Mapping[str, Any]


DEFAULT_PRESET = "reference"
PRESETS = {
    DEFAULT_PRESET: Preset(fusion={"init": "identity", "gate": "sigmoid"}, keeper={}),
    "efficient": Preset(
        fusion={"init": "identity", "gate": "sigmoid", "kind": "light", "reduction": [8, 4]},
        keeper={"base_features": 8, "kernel_size": 3, "position_branch": False},
    ),
}


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
