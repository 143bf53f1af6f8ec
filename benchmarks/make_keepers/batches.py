"""Batches from the simulated pairs, in any of the orientations and normalisations that a dataset may have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

WHOLE_IMAGE = 1 / 3
"""Of the brains alone, those that are normalised over the whole image, as nnU-Net does where little is zero."""


@dataclass(frozen=True)
class Draw:
    """One simulated pair in memory-mapped files."""

    images: npt.NDArray[np.float16]
    structures: npt.NDArray[np.uint8]
    record: dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """Source and target `(B, 1, *S)`, structures `(B, *S)` with 0 for none."""

    source: Tensor
    target: Tensor
    structures: Tensor


def read_draws(folder: Path) -> list[Draw]:
    """All pairs of a folder."""
    return [
        Draw(
            np.load(path.with_suffix(".npy"), mmap_mode="r"),
            np.load(path.with_name(f"{path.stem}_labels.npy"), mmap_mode="r"),
            json.loads(path.read_text(encoding="utf-8")),
        )
        for path in sorted(folder.glob("*.json"))
    ]


def split(draws: Sequence[Draw], held_out: Sequence[str]) -> tuple[list[Draw], list[Draw]]:
    """Draws of the label maps that are learnt from, and of those held out."""
    return (
        [one for one in draws if one.record["case"] not in held_out],
        [one for one in draws if one.record["case"] in held_out],
    )


def draw_batch(draws: Sequence[Draw], rng: np.random.Generator, *, size: int, patch: Sequence[int]) -> Batch:
    """Patches of random draws: slices of their first axis in 2D."""
    parts = [_draw_patch(draws[int(rng.integers(len(draws)))], rng, patch) for _ in range(size)]
    images, structures = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    return Batch(torch.from_numpy(images[:, :1]), torch.from_numpy(images[:, 1:]), torch.from_numpy(structures).long())


def _draw_patch(
    draw: Draw, rng: np.random.Generator, patch: Sequence[int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    place = place_of(draw, rng, patch)
    images = np.asarray(draw.images[:, *place], np.float32)
    structures = np.asarray(draw.structures[place])
    air = np.zeros(2, np.float32)
    if not draw.record["whole_head"] and rng.random() < WHOLE_IMAGE:
        images, air = over_whole_image(images, draw.record)
    elif draw.record["whole_head"]:
        air = np.array([darkest(draw.record, name) for name in ("source", "target")], np.float32)
    if len(patch) == 2:
        images, structures = images[:, 0], structures[0]
    missing = [wanted - there for wanted, there in zip(patch, structures.shape, strict=True)]
    if any(missing):
        before = [int(rng.integers(count + 1)) for count in missing]
        widths = [(first, count - first) for first, count in zip(before, missing, strict=True)]
        structures = np.pad(structures, widths)
        images = np.stack([np.pad(one, widths, constant_values=value) for one, value in zip(images, air, strict=True)])
    return _turned(images, structures, rng)


def place_of(draw: Draw, rng: np.random.Generator, patch: Sequence[int]) -> tuple[slice, ...]:
    """Where a patch lies in a draw; it shows some brain."""
    sizes = [1, *patch] if len(patch) == 2 else list(patch)
    shape = draw.structures.shape
    place: tuple[slice, ...] = ()
    for _ in range(20):
        starts = [int(rng.integers(max(n - size, 0) + 1)) for n, size in zip(shape, sizes, strict=True)]
        place = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
        if np.count_nonzero(draw.structures[place][..., ::4, ::4]) * 16 > 0.1 * np.prod(sizes):
            break
    return place


def over_whole_image(
    images: npt.NDArray[np.float32], record: dict[str, Any]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Images normalised in the brain as they are over the whole image, and what air is then."""
    changed, air = [], []
    for image, name in zip(images, ("source", "target"), strict=True):
        brain, whole = (record["normalisation"][name][where] for where in ("brain", "whole"))
        air.append((0 - whole["mean"]) / whole["std"])
        values = (image * brain["std"] + brain["mean"] - whole["mean"]) / whole["std"]
        changed.append(np.where(image == 0, air[-1], values).astype(np.float32))
    return np.stack(changed), np.array(air, np.float32)


def darkest(record: dict[str, Any], name: str) -> float:
    """Air of a whole head in normalised intensities."""
    whole = record["normalisation"][name]["whole"]
    return float((0 - whole["mean"]) / whole["std"])


def _turned(
    images: npt.NDArray[np.float32], structures: npt.NDArray[np.uint8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Mirrored and with axes exchanged, at random; patches are squares or cubes."""
    order = rng.permutation(structures.ndim)
    steps = tuple(slice(None, None, int(rng.choice((1, -1)))) for _ in range(structures.ndim))
    images = images.transpose(0, *(1 + order))[:, *steps]
    return np.ascontiguousarray(images), np.ascontiguousarray(structures.transpose(order)[steps])
