"""Predictions of models of three planes, as nnUNetv2_predict --save_probabilities leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

SHAPE = (6, 7, 8)  # z, y, x
LABELS = {"background": 0, "left_thalamus": 1, "right_thalamus": 2, "stem": 3}
AFFINE = np.array([[0, 0, -1.5, 10], [-0.8, 0, 0, 20], [0, 0.9, 0.1, -30], [0, 0, 0, 1.0]])


def softmax(channels: int, seed: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
    logits = np.exp(2 * np.random.default_rng(seed).standard_normal((channels, *shape)))
    return (logits / logits.sum(0)).astype(np.float32)


def write_case(folder: Path, case: str, probabilities: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """What nnUNetv2_predict --save_probabilities writes of a case; the segmentation is only there for its grid."""
    np.savez_compressed(folder / f"{case}.npz", probabilities=probabilities)
    image = folder / f"{case}.nii.gz"
    orthonormal = affine.copy()
    orthonormal[2, 2] = 0.0
    nibabel.save(nibabel.Nifti1Image(np.zeros(probabilities.shape[:0:-1], np.uint8), orthonormal), image)
    save_pickle(SimpleITKIO().read_images([str(image)])[1], str(folder / f"{case}.pkl"))


def write_view(
    folder: Path,
    seed: int,
    *,
    labels: Mapping[str, Any] = LABELS,
    cases: Sequence[str] = ("a", "b"),
    channels: int = 0,
    plane: str | None = None,
    **description: Any,
) -> Path:
    folder.mkdir(parents=True)
    plans = {"plans_name": "P", "image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager"}
    (folder / "plans.json").write_text(json.dumps(plans | {"configurations": {}} | ({"plane": plane} if plane else {})))
    dataset = {"labels": dict(labels), "file_ending": ".nii.gz", **description}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for index, case in enumerate(cases):
        write_case(folder, case, softmax(len(labels), 100 * seed + index)[-channels:])
    return folder


def three_views(root: Path, **options: Any) -> list[Path]:
    return [write_view(root / name, seed, **options) for seed, name in enumerate(("axial", "coronal", "sagittal"))]
