"""Scans of thick slices as files: where their slices lie, how a model reads them, what grid it writes (ours).

A model that makes r slices of one (SIQT, native mode) reads them along one axis of nnU-Net's transposed arrays. Slice k
of the scan lies at slice k * r of the image, so the origin stays and the slice spacing is divided by r.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.matching import SPACING_TOLERANCE
from nnunet_uhf.imageio.orientation import Turn
from nnunet_uhf.imageio.place import read_place
from nnunet_uhf.imageio.planes import slice_axis
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.kinds import KINDS
from nnunet_uhf.types import Affine

SAME_SPACING = 1.01  # factor; scanners and converters round


@dataclass(frozen=True)
class SliceGeometry:
    """The slices of one scan and of the image made of it.

    Attributes:
        header: the model's, as this scan is read: its axes brought to the model's order, its slice spacing kept.
        axis: of the slices in the transposed array `(Z, Y, X)`.
        file_axis: of the slices in the file, 0, 1 or 2 as nibabel counts.
        ratio: slices of the image per slice of the scan.
        spacing_mm: of the scan's slices.
        trained_spacing_mm: of the slices the model was trained to make.
        reverses: whether the model reads the slices from the last one on.
    """

    header: KeeperHeader
    axis: int
    file_axis: int
    ratio: int
    spacing_mm: float
    trained_spacing_mm: float
    reverses: bool = False

    @property
    def written_header(self) -> KeeperHeader:
        """The header with the image's slice spacing."""
        return _with_spacing(self.header, self.axis, self.spacing_mm / self.ratio)

    @property
    def warning(self) -> str | None:
        """What to say of slices that lie closer or farther apart than the model knows, or None."""
        made = self.spacing_mm / self.ratio
        if max(made / self.trained_spacing_mm, self.trained_spacing_mm / made) <= SPACING_TOLERANCE:
            return None
        return (
            f"its slices lie {self.spacing_mm:.3g} mm apart, so {self.ratio} of each are {made:.3g} mm apart; the "
            f"model was trained to make slices {self.trained_spacing_mm:.3g} mm apart and may do worse here"
        )

    @property
    def step(self) -> Affine:
        """(4, 4), voxel index of the image to voxel index of the scan."""
        step = np.eye(4)
        step[self.file_axis, self.file_axis] = 1 / self.ratio
        if self.reverses:  # what is made lies behind its slice as the model reads them, in the file before it
            step[self.file_axis, 3] = 1 / self.ratio - 1
        return step

    def properties(self, properties: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's properties of the scan -> those of the image."""
        changed = copy.deepcopy(properties)
        stored = self.header.transpose_forward[self.axis]  # in arrays as they are read, (z, y, x)
        for name in ("shape_before_cropping", "shape_after_cropping_and_before_resampling"):
            changed[name] = _changed(changed[name], self.axis, changed[name][self.axis] * self.ratio)
        box = [list(bounds) for bounds in changed["bbox_used_for_cropping"]]
        box[self.axis] = [bound * self.ratio for bound in box[self.axis]]
        changed["bbox_used_for_cropping"] = box
        changed["spacing"] = _changed(changed["spacing"], stored, changed["spacing"][stored] / self.ratio)
        return changed

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask `(Z, Y, X)` of the scan -> of the image: inside is what lies between slices of which one is inside.

        Where the brain ends between them is for the network to say.
        """
        count = mask.shape[self.axis]
        places = np.arange(count * self.ratio)
        before, behind = places // self.ratio, np.minimum(-(-places // self.ratio), count - 1)
        return mask.take(before, axis=self.axis) | mask.take(behind, axis=self.axis)


def ratio_of(header: KeeperHeader) -> int:
    """Slices the model makes of one; 1 for a model that keeps the grid."""
    slices = KINDS[header.network].thick_slices(header.architecture)
    return 1 if slices is None else slices[1]


def stretch_of(header: KeeperHeader) -> tuple[int, int, int]:
    """Voxels of the image per voxel of the scan along the axes of the transposed array `(Z, Y, X)`."""
    if ratio_of(header) == 1:
        return (1, 1, 1)
    steps = [1, 1, 1]
    steps[_model_axis(header)] = ratio_of(header)
    return (steps[0], steps[1], steps[2])


def slice_geometry(
    header: KeeperHeader, path: Path, *, axis: str | None = None, turn: Turn | None = None
) -> SliceGeometry | None:
    """How the slices of a file lie for a model; None for a model that keeps the grid.

    Args:
        header: the model's.
        path: a NIfTI file whose header can be read.
        axis: the plane of its slices (`axial`, `coronal`, `sagittal`) or their array axis (`0`, `1`, `2`); by default
            the axis along which the model's own training had its slices. The file's axis is brought there.
        turn: how the file is turned for the model before all else.

    Raises:
        UHFError: an axis for a model that keeps the grid, no such axis, or a file whose voxels are longest along
            another axis than the default one.
    """
    if ratio_of(header) == 1:
        if axis is not None:
            raise UHFError("this model keeps the grid of its input, so it has no slice axis: leave --axis out")
        return None
    model_axis = _model_axis(header)
    along = slices_of_file(header, path, model_axis=model_axis, axis=axis, turn=turn)
    trained = header.spacing_mm[model_axis - 3]
    read = _with_spacing(along.header, model_axis, along.spacing_mm)
    return SliceGeometry(read, model_axis, along.file_axis, ratio_of(header), along.spacing_mm, trained, along.reverses)


@dataclass(frozen=True, kw_only=True)
class SlicesOfFile:
    """Along which axis the slices of a file lie.

    Attributes:
        header: the model's, with the slices along its own axis of slices.
        file_axis: of the slices in the file, 0, 1 or 2 as nibabel counts.
        spacing_mm: of the slices.
        reverses: whether the model sees them from the other end.
    """

    header: KeeperHeader
    file_axis: int
    spacing_mm: float
    reverses: bool


def slices_of_file(
    header: KeeperHeader, path: Path, *, model_axis: int, axis: str | None, turn: Turn | None
) -> SlicesOfFile:
    """The slices of a file for a model whose slices run along an axis of the transposed array; see above."""
    affine = read_place(path, nibabel.load(path)).affine
    sizes = voxel_sizes(affine)
    axes = (0, 1, 2) if turn is None else turn.axes  # of the turned image, in the file
    default = axes[2 - header.transpose_forward[model_axis]]
    if axis is None:
        longest = int(np.argmax(sizes))
        if sizes[longest] > SAME_SPACING * sizes[default]:
            raise UHFError(
                f"{path}: its voxels are longest along array axis {longest} ({sizes[longest]:.3g} mm), the model was "
                f"trained on slices along array axis {default} ({sizes[default]:.3g} mm here); name the axis of the "
                f"slices, --axis {longest} or --axis {default}"
            )
        file_axis = default
    else:
        file_axis = slice_axis(affine, axis)
    order = list(header.transpose_forward)
    turned_axis = axes.index(file_axis)
    other = order.index(2 - turned_axis)
    order[model_axis], order[other] = order[other], order[model_axis]
    return SlicesOfFile(
        header=replace(header, transpose_forward=tuple(order)),
        file_axis=file_axis,
        spacing_mm=float(sizes[file_axis]),
        reverses=turn is not None and turn.reverses[turned_axis],
    )


def _model_axis(header: KeeperHeader) -> int:
    """The axis of the slices in the transposed array `(Z, Y, X)`, of a model of thick slices."""
    slices = KINDS[header.network].thick_slices(header.architecture)
    assert slices is not None
    return slices[0] + 3 - header.dim


def _with_spacing(header: KeeperHeader, axis: int, spacing_mm: float) -> KeeperHeader:
    """`axis` is of the transposed array; a 2D header holds the last two."""
    place = axis - 3 + header.dim
    return replace(header, spacing_mm=tuple(_changed(header.spacing_mm, place, spacing_mm)))


def _changed(values: Sequence[Any], place: int, value: Any) -> list[Any]:
    return [value if index == place else old for index, old in enumerate(values)]
