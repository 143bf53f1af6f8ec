"""Phantom subjects for the demo, made from the ICBM 2009 template that nilearn carries: no download.

A subject is the template's tissue maps after a random smooth deformation, with a random smooth signal for each
tissue and the template's own fine detail on top. It looks like a brain, but it is a phantom: nothing here was
acquired, and the "high-field" image is not a 7 T image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from nilearn import datasets
from scipy import ndimage

from nnunet_uhf.types import FloatArray, LabelArray

TISSUES = {"CSF": 1, "GM": 2, "WM": 3}
# Mean signal of each tissue on a T1-weighted image, arbitrary units with white matter near 1 (ours).
TISSUE_SIGNAL = {"CSF": 0.30, "GM": 0.68, "WM": 1.0}
SIGNAL_VARIATION = 0.08  # standard deviation of the smooth change of a tissue's signal over the brain
DETAIL_WEIGHT = 0.6  # how much of the template's detail beyond the tissue model stays in the image
NOISE_SIGMA = 0.008
TEMPLATE_LICENCE = (
    "ICBM 2009a Nonlinear Symmetric template. Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, "
    "Montreal Neurological Institute, McGill University. Permission to use, copy, modify, and distribute this "
    "software and its documentation for any purpose and without fee is hereby granted, provided that the above "
    "copyright notice appear in all copies. The authors and McGill University make no representations about the "
    'suitability of this software for any purpose. It is provided "as is" without express or implied warranty.'
)


@dataclass(frozen=True)
class Subject:
    """One phantom: image and labels share shape (X, Y, Z) and affine (mm, RAS)."""

    name: str
    image: FloatArray
    """High-field phantom image, skull-stripped: 0 outside the brain, white matter near 1."""
    labels: LabelArray
    """0 outside the brain, then the values of TISSUES."""
    affine: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Template:
    """Template at 2 mm: tissue probabilities that sum to 1 inside the brain, and the T1 image's own detail."""

    tissues: dict[str, FloatArray]
    detail: FloatArray
    affine: npt.NDArray[np.float64]

    @property
    def brain(self) -> FloatArray:
        """1 inside the brain, 0 outside."""
        return np.asarray(sum(self.tissues.values()), dtype=np.float32)


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read T1, grey and white matter of the ICBM template from inside nilearn (2 mm); CSF is the rest of the brain."""
    t1 = datasets.load_mni152_template(resolution=2)
    image = t1.get_fdata(dtype=np.float32)
    mask = datasets.load_mni152_brain_mask(resolution=2).get_fdata() > 0.5
    grey = datasets.load_mni152_gm_template(resolution=2).get_fdata(dtype=np.float32) * mask
    white = datasets.load_mni152_wm_template(resolution=2).get_fdata(dtype=np.float32) * mask
    total = np.maximum(grey + white, 1.0)
    grey, white = grey / total, white / total
    tissues = {"CSF": np.clip(mask - grey - white, 0.0, 1.0).astype(np.float32), "GM": grey, "WM": white}

    # What the three tissue maps cannot say of the T1 image (deep nuclei, vessels, cortex of different myelin).
    design = np.stack([tissues[name][mask] for name in tissues], axis=1)
    weights, *_ = np.linalg.lstsq(design, image[mask], rcond=None)
    detail = np.zeros_like(image)
    detail[mask] = (image[mask] - design @ weights) / float(weights[-1])
    return Template(tissues, detail, np.asarray(t1.affine, dtype=np.float64))


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, ...], *, wavelength_mm: float, spacing_mm: float
) -> FloatArray:
    """Random smooth scalar field of `shape`, mean 0, standard deviation 1, correlated over about `wavelength_mm`."""
    sigma = wavelength_mm / spacing_mm / 2
    margin = int(np.ceil(sigma))
    noise = rng.standard_normal(tuple(n + 2 * margin for n in shape)).astype(np.float32)
    field = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    field = field[tuple(slice(margin, margin + n) for n in shape)]
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def deformed_grid(
    rng: np.random.Generator, shape: tuple[int, int, int], *, spacing_mm: float, strength: float
) -> npt.NDArray[np.float64]:
    """World coordinates (3, X, Y, Z) in mm at which the template is read for a subject on a grid of `shape`.

    The grid is centred on the brain; `strength` 0 gives the template itself. Standard deviations at strength 1:
    scale 3 % and rotation 3 degrees per axis, displacement 3 mm over long and 1 mm over short distances (ours).
    The mean scale makes the brain 5 % smaller: the template is larger than most brains.
    """
    centre = np.array([0.0, -17.0, 5.0])  # middle of the template's brain in MNI space, mm
    axes = [(np.arange(n) - (n - 1) / 2) * spacing_mm for n in shape]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"))
    scale = np.exp(rng.normal(0.05, 0.03, 3) * strength)
    rotation = np.eye(3)
    for axis, angle in enumerate(rng.normal(0.0, np.deg2rad(3) * strength, 3)):
        first, second = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    world = np.einsum("ij,jxyz->ixyz", rotation @ np.diag(scale), offsets)
    for axis in range(3):
        for wavelength, millimetres in ((60.0, 3.0), (20.0, 1.0)):
            field = smooth_field(rng, shape, wavelength_mm=wavelength, spacing_mm=spacing_mm)
            world[axis] += strength * millimetres * field
    return np.asarray(world + centre[:, None, None, None], dtype=np.float64)


def make_subject(
    name: str,
    *,
    seed: int,
    shape: tuple[int, int, int],
    spacing_mm: float,
    strength: float = 1.0,
) -> Subject:
    """Make one phantom; the same seed gives the same subject.

    shape: voxels per axis (X, Y, Z), RAS; spacing_mm: isotropic voxel size; strength: of the deformation.
    """
    rng = np.random.default_rng(seed)
    template = load_template()
    world = deformed_grid(rng, shape, spacing_mm=spacing_mm, strength=strength)
    inverse = np.linalg.inv(template.affine)
    voxels = np.einsum("ij,jxyz->ixyz", inverse[:3, :3], world) + inverse[:3, 3][:, None, None, None]

    def read(volume: FloatArray) -> FloatArray:
        return np.asarray(ndimage.map_coordinates(volume, voxels, order=1, cval=0.0), dtype=np.float32)

    # The probabilities are deformed, the labels decided afterwards: no interpolated label values.
    tissues = {tissue: read(volume) for tissue, volume in template.tissues.items()}
    inside = np.asarray(sum(tissues.values())) > 0.5
    labels = np.zeros(shape, dtype=np.uint8)
    winner = np.argmax(np.stack([tissues[tissue] for tissue in TISSUES]), axis=0)
    labels[inside] = np.array(list(TISSUES.values()), dtype=np.uint8)[winner[inside]]

    image = DETAIL_WEIGHT * read(template.detail)
    for tissue, probability in tissues.items():
        variation = smooth_field(rng, shape, wavelength_mm=50.0, spacing_mm=spacing_mm)
        image += probability * TISSUE_SIGNAL[tissue] * (1 + SIGNAL_VARIATION * variation)
    image += rng.normal(0.0, NOISE_SIGMA, shape).astype(np.float32)
    # Strictly positive inside the brain: nnU-Net takes exact zeros for background.
    image = np.where(inside, np.maximum(image, 0.02), 0.0).astype(np.float32)

    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * spacing_mm for n in shape]
    return Subject(name, image, labels, affine)
