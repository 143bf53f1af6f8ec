"""Small made subjects of the tests of preprocessing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.made_scans import AFFINE, SHAPE
from helpers.tiny_data import make_channel, make_labels, write_image

NAMES = ("anna", "béla 2", "carl")


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
