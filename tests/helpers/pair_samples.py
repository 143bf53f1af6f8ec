"""Made pairs of scans whose true movement is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from helpers.tiny_data import make_channel, make_labels, write_image

SHAPE = (40, 44, 36)
#: 4 mm voxels around the world's origin, array axes right, anterior, superior.
AFFINE = nib.affines.from_matvec(np.diag([4.0, 4.0, 4.0]), [-78.0, -86.0, -70.0])
#: Low field: thick slices, another field of view, array axes left, anterior, superior.
LOW_SHAPE = (48, 50, 24)
LOW_AFFINE = nib.affines.from_matvec(np.diag([-3.5, 3.5, 7.0]), [80.0, -84.0, -80.0])
LPS = np.array([-1.0, -1.0, 1.0])


def subject(seed: int = 0) -> np.ndarray:
    """Tissues (CSF 1, GM 2, WM 3) of a head that no turn or mirror maps to itself."""
    labels = make_labels(SHAPE, np.random.default_rng(seed))
    labels[6:13, 24:34, 15:24][labels[6:13, 24:34, 15:24] > 0] = 1
    labels[24:30, 8:14, 20:27] = 1
    return labels


def movement(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> Any:
    """The true transform from points of the high-field scan to points of the low-field scan, in ITK's world."""
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*angles)
    transform.SetTranslation(shift)
    return transform


def low_field(labels: np.ndarray, transform: Any, *, seed: int = 0) -> np.ndarray:
    """The subject after the movement, seen by the low-field scanner: other grid, other contrast, more noise."""
    moved = resampled(labels.astype(np.float32), AFFINE, LOW_SHAPE, LOW_AFFINE, transform.GetInverse(), nearest=True)
    return make_channel(moved.astype(np.uint8), "LF", np.random.default_rng(100 + seed))


def high_field(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """The subject at high field, on the grid of the labels."""
    return make_channel(labels, "HF", np.random.default_rng(200 + seed))


def resampled(
    data: np.ndarray, affine: np.ndarray, shape: Any, grid: np.ndarray, transform: Any, *, nearest: bool = False
) -> np.ndarray:
    """Through a transform from points of the grid to points of the data."""
    pictures = []
    for array, matrix in ((data, affine), (np.zeros(shape, np.float32), grid)):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((np.diag(LPS) @ matrix[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin((LPS * matrix[:3, 3]).tolist())
        pictures.append(image)
    way = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    return sitk.GetArrayFromImage(sitk.Resample(*pictures, transform, way, 0.0)).T


def point_errors_mm(found: Any, truth: Any, labels: np.ndarray) -> np.ndarray:
    """How far apart both transforms put points of the brain, in mm."""
    points = nib.affines.apply_affine(AFFINE, np.argwhere(labels > 0)[::200]) * LPS
    pairs = [(found.TransformPoint(p.tolist()), truth.TransformPoint(p.tolist())) for p in points]
    return np.array([np.linalg.norm(np.subtract(a, b)) for a, b in pairs])


def write_turned(path: Path, data: np.ndarray, affine: np.ndarray, axcodes: str) -> Path:
    """Write with the array axes in the given directions; the place of every voxel in the world stays."""
    image = nib.Nifti1Image(data, affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axcodes))
    turned = image.as_reoriented(turn)
    write_image(path, np.asarray(turned.dataobj), turned.affine)
    return path


def canonical(path: Path) -> np.ndarray:
    """Voxels with the axes right, anterior, superior."""
    return nib.as_closest_canonical(nib.load(path)).get_fdata(dtype=np.float32)
