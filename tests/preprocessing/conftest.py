"""Small made subjects of the tests of preprocessing, on a grid whose axes are not the standard ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support import make_channel, make_labels, write_image

NAMES = ("anna", "béla 2", "carl")
SHAPE = (32, 34, 33)
# array axes run posterior, superior, right, as in scans stored sagittally; off-centre origin, 2 mm
AFFINE = np.array([[0.0, 0, 2, -25], [-2, 0, 0, 20], [0, 2, 0, -30], [0, 0, 0, 1]])

Save = Callable[..., Path]


@pytest.fixture
def save() -> Save:
    """Write an array as NIfTI on the subjects' grid, or on another one; returns the path."""

    def write(path: Path, array: np.ndarray, *, affine: np.ndarray = AFFINE) -> Path:
        write_image(path, array, affine)
        return path

    return write


@pytest.fixture
def subjects(tmp_path: Path) -> Path:
    """Folder with `images` (high field, int16) and `labels` (CSF 1, GM 2, WM 3) of three subjects."""
    root = tmp_path / "subjects"
    for seed, name in enumerate(NAMES):
        rng = np.random.default_rng(seed)
        labels = make_labels(SHAPE, rng)
        image = (10 * make_channel(labels, "HF", rng)).astype(np.int16)
        write_image(root / "images" / f"{name}.nii.gz", image, AFFINE)
        write_image(root / "labels" / f"{name}.nii.gz", labels, AFFINE)
    return root
