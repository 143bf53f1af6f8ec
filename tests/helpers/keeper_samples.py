"""Keeper headers and files with made weights, and the ways to spoil them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nnunet_uhf.errors import KeeperFileError
from nnunet_uhf.keepers.file import KeeperHeader, read_header, read_keeper, write_keeper
from nnunet_uhf.keepers.header import header_json


def architecture(dim: int = 2) -> dict[str, Any]:
    """Arguments of a small keeper."""
    return {
        "dim": dim,
        "in_channels": 1,
        "base_features": 4,
        "strides": [[1] * dim] + [[2] * dim] * 4,
        "kernel_size": 3,
        "position_branch": True,
        "convolutions": 1,
    }


def make_header(dim: int = 2, **changes: Any) -> KeeperHeader:
    """The header of a keeper trained at 1 mm on the channel T1w; `changes` replace its fields."""
    values: dict[str, Any] = {
        "architecture": architecture(dim),
        "dim": dim,
        "channel": "T1w",
        "spacing_mm": (1.0,) * dim,
        "transpose_forward": (0, 1, 2),
        "patch_size": (64,) * dim,
        "normalisation": "ZScoreNormalization",
        "use_mask_for_norm": False,
        "target_intensity": {"mean": 100.0, "std": 20.0},
        "source_field_T": 0.36,
        "target_field_T": 3.0,
        "route": "simulated",
        "dataset": "Dataset501_Pairs",
        "fold": 0,
        "configuration": "2d" if dim == 2 else "3d_fullres",
        "training_cases": ["Sub_01", "sub_02"],
        "validation_cases": ["sub_03"],
        "metrics": {"keeper": {"psnr": 29.5, "ssim": 0.88}, "input": {"psnr": 27.6, "ssim": 0.63}},
    }
    return KeeperHeader(**(values | changes))


def anisotropic(dim: int = 2, **changes: Any) -> dict[str, Any]:
    """Arguments of a small anisotropic U-Net that can guide."""
    return {
        "dim": dim,
        "in_channels": 1,
        "base_features": 4,
        "ratio": 1,
        "slice_axis": None,
        "masks": None,
        "mask_scale": 2.0,
        "pooling": "average",
        "plane_step": 2,
        **changes,
    }


def statistics(channels: Sequence[int] = (4, 4, 4, 4, 4)) -> dict[str, Any]:
    """Feature statistics of a keeper with these channels; by default those of the 2D sample."""
    distances = {"mean": 1.0, "std": 0.1, "p95": 1.2, "max": 1.5}
    levels = [{"mean": [0.5] * c, "std": [0.1] * c, "distances": distances} for c in channels]
    return {"cases": 12, "levels": levels, "distances": distances}


def some_weights(seed: int = 3) -> dict[str, Tensor]:
    """Tensors of several types and shapes, one without axes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "level.weight": torch.randn(4, 2, 3, 3, generator=generator),
        "level.half": torch.randn(5, generator=generator).half(),
        "level.brain": torch.randn(5, generator=generator).bfloat16(),
        "scalar": torch.tensor(0.25),
    }


def write(path: Path, dim: int = 2, *, seed: int = 3, **changes: Any) -> Path:
    """Write a keeper file of made weights (they are not those of its architecture)."""
    write_keeper(path, header=make_header(dim, **changes), keeper_state=some_weights(seed))
    return path


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Save the same weights again under a changed header, past every check of the writer."""
    content = json.loads(header_json(read_header(path)))
    change(content)
    return replace_header(path, json.dumps(content))


def replace_header(path: Path, text: str) -> Path:
    """Save the same weights again under another text as header."""
    save_file(load_file(path), path, metadata={"nnunet_uhf": text})
    return path


def refused(path: Path, *parts: str, reader: Callable[[Path], Any] = read_keeper) -> None:
    """Assert that the file is refused in one line that names it, says `parts` and ends in a remedy."""
    with pytest.raises(KeeperFileError) as caught:
        reader(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for part in parts:
        assert part in message, message
    assert any(remedy in message for remedy in ("Export", "upgrade", "Give the path", "Take it out")), message
