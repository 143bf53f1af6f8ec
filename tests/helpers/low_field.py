"""Folders of simulated low-field scans, as the command makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from nnunet_uhf.preprocessing.low_field import LowFieldSimulator, choose_profile, find_preset
from nnunet_uhf.preprocessing.low_field.folder import simulate_folder
from nnunet_uhf.preprocessing.low_field.tissue_source import TissueSource

PRESET = "t1w_0.36T_probable"


def simulated(
    images: Path,
    output: Path,
    labels: Path | None,
    *,
    preset: str = PRESET,
    ratio: int | None = 3,
    thickness: float | None = None,
    gap: float | None = None,
    noise_scale: float = 1.0,
    tissues: dict[str, Any] | None = None,
    axis: str = "axial",
    targets: Path | None = None,
    seed: int = 0,
    console: Console | None = None,
    **options: Any,
) -> Path:
    """Simulate a folder of images; `tissues` goes to the source of tissues, `options` to the simulator."""
    chosen = find_preset(preset)
    profile = choose_profile(ratio, thickness=thickness, gap=gap)
    simulator = LowFieldSimulator(
        snr=chosen.snr, profiles=(profile,), noise_scale=(noise_scale, noise_scale), **options
    )
    source = TissueSource(folder=labels, seed=seed, **(tissues or {}))
    return simulate_folder(
        images, output, simulator, source, preset=chosen, axis=axis, targets=targets, seed=seed, console=console
    )
