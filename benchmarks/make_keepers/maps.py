"""Label maps of three sources in FreeSurfer's numbers, left for both sides, at 1 mm in one orientation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.processing import resample_to_output

from nnunet_uhf.imageio.label_maps import label_volume
from nnunet_uhf.preprocessing.low_field.freesurfer import LEFT_TWINS

SPACING_MM = 1.0
GOUHFI = (
    *(0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28, 31),  # left and middle, 0 to 19
    *(41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60, 63, 77),  # right, lesions
)
"""FreeSurfer's number of each of GOUHFI's labels 0 to 34 and 35; what lies outside the brain is left out."""
CLASSES = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28, 31)
"""Structures that a network may be taught, by their numbers on the left; others belong to one of them."""
CEREBRUM = (2, 3, 7, 8, 41, 42, 46, 47)
"""White matter and cortex of cerebrum and cerebellum: what of a head is looked at, without the neck."""
_UNKNOWN = 29  # of FreeSurfer, "undetermined": a few voxels of one map
_JOINED = {25: 2, 30: 2, 77: 2, 85: 28, 136: 4, 137: 4, 72: 24}
LICENCES = "SynthSeg (Apache-2.0), GOUHFI (Apache-2.0), SynthSR (Apache-2.0)"


@dataclass(frozen=True)
class LabelMap:
    """A file and the numbers it is in."""

    case: str
    path: Path
    source: str


def label_maps(synthseg: Path, others: Path) -> list[LabelMap]:
    """All maps: 20 of SynthSeg, whole heads; three of GOUHFI; five of SynthSR."""
    found = [
        *(("synthseg", path) for path in sorted(synthseg.glob("training_seg_*.nii.gz"))),
        *(("gouhfi", path) for path in sorted(others.glob("gouhfi_*.nii.gz"))),
        *(("synthsr", path) for path in sorted(others.glob("synthsr_*.nii.gz"))),
    ]
    return [LabelMap(f"{source}_{path.name.removesuffix('.nii.gz')}", path, source) for source, path in found]


def read_map(one: LabelMap) -> npt.NDArray[np.int16]:
    """The map `(X, Y, Z)`, axes towards right, front and top, at 1 mm, with what lies around the brain."""
    volume = label_volume(one.path)
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.data.astype(np.int16), volume.affine))
    if not np.allclose(image.header.get_zooms()[:3], SPACING_MM, atol=1e-3):
        image = resample_to_output(image, (SPACING_MM,) * 3, order=0)
    labels = np.asarray(image.dataobj).astype(np.int16)
    if one.source == "gouhfi":
        table = np.array([*GOUHFI, 0], np.int16)  # the last: tissue that is not brain
        labels = table[labels]
    return np.where(labels == _UNKNOWN, 0, labels).astype(np.int16)


def cut(labels: npt.NDArray[np.int16], margin: int) -> npt.NDArray[np.int16]:
    """The box of cerebrum and cerebellum with a margin of voxels, as far as the map goes."""
    found = np.isin(labels, CEREBRUM)
    for axis in range(3):
        there = np.flatnonzero(found.any(axis=tuple(other for other in range(3) if other != axis)))
        window = slice(max(int(there[0]) - margin, 0), int(there[-1]) + 1 + margin)
        labels = labels[(slice(None),) * axis + (window,)]
        found = found[(slice(None),) * axis + (window,)]
    return labels


def class_indices(labels: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """Position of each voxel's structure in `CLASSES`, from 1; 0 outside the brain."""
    table = np.zeros(int(labels.max()) + 1, np.uint8)
    for value in range(len(table)):
        left = LEFT_TWINS.get(value, value)
        left = _JOINED.get(left, left)
        if left in CLASSES:
            table[value] = CLASSES.index(left) + 1
    return table[labels]
