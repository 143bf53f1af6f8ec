"""The anatomy all field strengths of a subject share: which voxel is which structure, and how each one differs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.freesurfer import FREESURFER_TISSUES, LEFT_TWINS, tissue_classes

# A factor further than this many standard deviations from 1 is drawn again: no structure changes its tissue
MAX_DEVIATIONS = 3.0


@dataclass(frozen=True, kw_only=True)
class SimulatedStructure:
    """One label of the brain.

    Attributes:
        label: number in the label map.
        tissue: `csf`, `gm` or `wm`.
        t1_factor: the subject's T1 over the published one, > 0.
        decay_factor: the same of T2 and T2*.
        density_factor: the same of the proton density.
    """

    label: int
    tissue: str
    t1_factor: float
    decay_factor: float
    density_factor: float


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Label map of one subject, cut to the brain.

    Attributes:
        index: position of each voxel's structure in `structures`, from 1; 0 outside the brain; (*S).
        tissues: tissue class of each voxel: 0 outside, CSF 1, GM 2, WM 3; same shape.
        structures: labels of the brain.
        box: where `index` lies in the label map.
    """

    index: npt.NDArray[np.intp]
    tissues: npt.NDArray[np.uint8]
    structures: tuple[SimulatedStructure, ...]
    box: tuple[slice, slice, slice]


def vary_structures(
    labels: npt.NDArray[np.number], rng: np.random.Generator, *, variation: float, margin: int = 0
) -> Anatomy:
    """Find the brain in a label map of FreeSurfer's numbers and draw how its structures differ from the literature.

    Args:
        labels: whole label map, 3D.
        rng: source of randomness; three draws for each structure, in the order of the numbers. A structure has the
            same on the left and on the right.
        variation: standard deviation of the factors on T1, decay and density around 1, 0 to 0.3 (ours).
        margin: voxels kept around the brain, as far as the label map goes.

    Raises:
        UHFError: a label that is not in the table, no grey or white matter, or a variation out of range.
    """
    if not 0 <= variation <= 0.3:
        raise UHFError(f"variation is {variation:g}: use 0 to 0.3, the standard deviation as part of the value")
    if margin < 0:
        raise UHFError(f"margin is {margin}: use 0 or more voxels")
    tissues = tissue_classes(labels)
    if not (tissues == 2).any() or not (tissues == 3).any():
        raise UHFError("the label map holds no grey or no white matter in FreeSurfer's numbers: check the file")
    box = _bounding_box(tissues > 0, margin)
    tissues = tissues[box]
    brain = np.where(tissues > 0, labels[box], 0)
    values, index = np.unique(brain, return_inverse=True)
    first = int(values[0] != 0)  # a brain that fills its box has no background
    structures, drawn = [], {}
    for label in values[1 - first :].astype(int).tolist():
        twin = LEFT_TWINS.get(label, label)
        if twin not in drawn:
            drawn[twin] = _factors(rng, variation)
        t1, decay, density = drawn[twin]
        structures.append(
            SimulatedStructure(
                label=label,
                tissue=FREESURFER_TISSUES[label],
                t1_factor=t1,
                decay_factor=decay,
                density_factor=density,
            )
        )
    return Anatomy(
        index=(index.reshape(brain.shape) + first).astype(np.intp),
        tissues=tissues,
        structures=tuple(structures),
        box=box,
    )


def _factors(rng: np.random.Generator, variation: float) -> tuple[float, float, float]:
    """Three factors around 1."""
    deviations = rng.standard_normal(3)
    while (far := np.abs(deviations) > MAX_DEVIATIONS).any():
        deviations[far] = rng.standard_normal(int(far.sum()))
    t1, decay, density = (1 + variation * deviations).tolist()
    return t1, decay, density


def _bounding_box(mask: npt.NDArray[np.bool_], margin: int) -> tuple[slice, slice, slice]:
    """Smallest box around a mask that is not empty, with a margin inside the array."""
    slices = []
    for axis, size in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        slices.append(slice(max(int(found[0]) - margin, 0), min(int(found[-1]) + 1 + margin, size)))
    return slices[0], slices[1], slices[2]
