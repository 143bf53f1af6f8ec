"""Where the slices of a scan lie, and those of the volume that is asked for between them (ours).

The first slice stays where it is; the others follow at any distance, as far as the scan goes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.orientation import Turn
from nnunet_uhf.inference.slice_volumes import slice_count_of
from nnunet_uhf.inference.thick_scans import slices_of_file
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.types import Affine


@dataclass(frozen=True, kw_only=True)
class AskedGeometry:
    """The slices of one scan and of the volume that is asked for.

    Attributes:
        header: the model's, as this scan is read: the slices along the first axis.
        file_axis: of the slices in the file, 0, 1 or 2 as nibabel counts.
        count: slices of the scan.
        spacing_mm: of the scan's slices.
        asked_mm: of the volume's slices.
        reverses: whether the model sees the slices from the other end than the file has them.
    """

    header: KeeperHeader
    file_axis: int
    count: int
    spacing_mm: float
    asked_mm: float
    reverses: bool = False

    @property
    def ratio(self) -> float:
        """Slices of the volume per slice of the scan."""
        return self.spacing_mm / self.asked_mm

    @property
    def asked_count(self) -> int:
        """Slices of the volume."""
        return slice_count_of(self.count, self.asked_mm / self.spacing_mm)

    @property
    def places(self) -> list[float]:
        """Where they lie, counted in slices of the scan as the model sees them."""
        places = [min(k / self.ratio, self.count - 1.0) for k in range(self.asked_count)]
        return [self.count - 1 - place for place in reversed(places)] if self.reverses else places

    @property
    def step(self) -> Affine:
        """(4, 4), voxel index of the volume to voxel index of the scan."""
        step = np.eye(4)
        step[self.file_axis, self.file_axis] = 1 / self.ratio
        return step

    def whole(self, cropped: NDArray[Any], properties: dict[str, Any]) -> NDArray[Any]:
        """An array `(.., Z, Y, X)` of the crop with all slices of the scan; those cut off hold nothing: 0."""
        first, last = properties["bbox_used_for_cropping"][0]
        whole = np.zeros((*cropped.shape[:-3], self.count, *cropped.shape[-2:]), dtype=cropped.dtype)
        whole[..., first:last, :, :] = cropped
        return whole

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask of all slices of the scan -> of the volume: what lies between slices of which one is inside."""
        places = np.asarray(self.places)
        before = np.floor(places + 1e-6).astype(int)
        behind = np.minimum(np.ceil(places - 1e-6).astype(int), self.count - 1)
        return mask[before] | mask[behind]

    def properties(self, properties: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's properties of the scan -> those of the volume, of which no slice is cut off."""
        changed = copy.deepcopy(properties)
        for name in ("shape_before_cropping", "shape_after_cropping_and_before_resampling"):
            changed[name] = [self.asked_count, *changed[name][1:]]
        changed["bbox_used_for_cropping"] = [[0, self.asked_count], *changed["bbox_used_for_cropping"][1:]]
        stored = self.header.transpose_forward[0]
        spacing = list(changed["spacing"])
        spacing[stored] = self.asked_mm
        changed["spacing"] = spacing
        return changed


def asked_geometry(
    header: KeeperHeader,
    path: Path,
    *,
    spacing_mm: float | None = None,
    axis: str | None = None,
    turn: Turn | None = None,
) -> AskedGeometry:
    """How the slices of a file lie for a model that makes volumes slice by slice.

    Args:
        header: the model's.
        path: a NIfTI file whose header can be read.
        spacing_mm: between the slices of the volume; by default the scan's own.
        axis: the plane of the slices (`axial`, `coronal`, `sagittal`) or their array axis (`0`, `1`, `2`); by default
            that of the training.
        turn: how the file is turned for the model before all else.

    Raises:
        UHFError: no such axis, a file whose voxels are longest along another axis than the default one, or a spacing
            that is none.
    """
    along = slices_of_file(header, path, model_axis=0, axis=axis, turn=turn)
    asked = along.spacing_mm if spacing_mm is None else spacing_mm
    if not 1e-3 <= asked <= 1e3:
        raise UHFError(f"--spacing {asked:g}: give the distance of the slices in mm")
    return AskedGeometry(
        header=along.header,
        file_axis=along.file_axis,
        count=int((*nibabel.load(path).shape, 1, 1)[along.file_axis]),
        spacing_mm=along.spacing_mm,
        asked_mm=asked,
        reverses=along.reverses,
    )
