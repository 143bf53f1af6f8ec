"""Tiny keepers that know their features on a dozen made scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from helpers.support import tiny_keeper
from helpers.tiny_data import case_affine, make_channel, make_labels, write_image
from nnunet_uhf.inference.preprocess import managers, preprocess_image
from nnunet_uhf.keepers.file import build_keeper, read_keeper
from nnunet_uhf.keepers.statistics import channel_means, features_of, summarise_features

SHAPE = (30, 34, 28)
TRAINING = range(12)


def scan(seed: int) -> np.ndarray:
    """A made low-field scan."""
    rng = np.random.default_rng(seed)
    return make_channel(make_labels(SHAPE, rng), "LF", rng)


def save(path: Path, image: np.ndarray) -> Path:
    """Write it at 1 mm."""
    write_image(path, image, case_affine((1.0, 1.0, 1.0), image.shape))
    return path


def knowing(folder: Path, dim: int, **header: Any) -> Path:
    """A tiny keeper file whose header knows its features on a dozen scans."""
    plain = tiny_keeper(folder / "plain", dim, **header)
    file = read_keeper(plain)
    keeper, settings = build_keeper(file), managers(file.header)
    means = []
    for seed in TRAINING:
        data, *_ = preprocess_image((save(folder / "scans" / f"{seed}.nii.gz", scan(seed)),), *settings)
        means.append(channel_means(features_of(keeper), data, file.header.patch_size))
    return tiny_keeper(folder, dim, feature_statistics=summarise_features(means), **header)
