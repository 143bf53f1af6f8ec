"""Teachers and keepers after a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights


def praise(trainer: Any, psnr: float) -> None:
    """Have the summary of a hardly trained network say what it would after a long training; in dB."""
    path = Path(trainer.output_folder) / "validation" / "summary.json"
    summary = json.loads(path.read_text())
    for row in ("prediction", "prediction_fitted"):
        summary["mean"][row]["psnr"] = psnr
    summary["mean"]["input"]["psnr"] = 20.0
    path.write_text(json.dumps(summary))


def final_weights(trainer: Any) -> dict[str, torch.Tensor]:
    """Of its last checkpoint."""
    return load_checkpoint_weights(Path(trainer.output_folder) / "checkpoint_final.pth")["network_weights"]


def part(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The weights of one part of a network, by their names within it."""
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
