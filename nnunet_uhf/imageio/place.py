"""Where a NIfTI header puts the voxels, as the two families of programs read it: one rule, and one warning.

A header says its place in two ways, by sform and by qform, and its voxel size in a third. ITK, and with it nnU-Net,
takes the voxel size from pixdim and, where both forms are given, often the qform; nibabel, and with it FSL, nilearn and
FSLeyes, takes both from the sform. ITK converts to mm, nibabel leaves the file's unit. This package follows ITK, as
nnU-Net does, and says so where the two differ.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.orientations import aff2axcodes

from nnunet_uhf.errors import UHFWarning
from nnunet_uhf.types import Affine

# Two readings that are off by less than this part of a voxel anywhere in the image are one, stored with rounding.
TOLERANCE_VOXELS = 0.05
# Less than this is the arithmetic of single precision: the numbers are then given as nibabel has them.
ROUNDING_VOXELS = 1e-4
#: mm in a header's unit of length; a header without a unit counts in mm.
MM = {"meter": 1000.0, "micron": 0.001}
# nibabel's world is right, anterior, superior; ITK's is left, posterior, superior
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Place:
    """A voxel's index to world mm (right, anterior, superior), as it is read in two ways.

    Attributes:
        affine: (4, 4), ITK's and nnU-Net's reading, which counts; nibabel's, in mm, where ITK refuses the file.
        other: (4, 4), nibabel's reading in mm.
        coded: whether the header says that it names a place.
    """

    affine: Affine
    other: Affine
    coded: bool = True

    def contradiction(self, shape: Sequence[int]) -> str | None:
        """What to say of a file of that shape whose header is read as two voxel sizes or two places; None if one."""
        distance = largest_distance(self.affine, self.other, shape)
        sizes, others = voxel_sizes(self.affine), voxel_sizes(self.other)
        steps = np.maximum(np.asarray((*shape, 1, 1)[:3]) - 1, 1)
        if np.abs((sizes - others) * steps).max() > TOLERANCE_VOXELS * sizes.min():
            return (
                f"nnU-Net (ITK) reads voxels of {_lengths(sizes)} mm, nibabel (FSL, nilearn) of {_lengths(others)} mm, "
                "as pixdim and sform differ; lengths and volumes here are nnU-Net's: correct the header"
            )
        if distance <= TOLERANCE_VOXELS * sizes.min():
            return None
        why = "names two places, by sform and by qform" if self.coded else "names no place (sform and qform: code 0)"
        return (
            f"its header {why}: nnU-Net (ITK) puts the first voxel at {_point(self.affine)} mm, nibabel (FSL, nilearn) "
            f"at {_point(self.other)} mm; voxels are up to {distance:.3g} mm apart between the two{self._axes()}"
        )

    def _axes(self) -> str:
        """Which way the axes run, where that differs: left and right may be exchanged."""
        axes, others = ("".join(aff2axcodes(each)) for each in (self.affine, self.other))
        return "" if axes == others else f", and axes run to {axes} and to {others}"


def read_place(path: Path, image: Any) -> Place:
    """The place that the header of a file names.

    Args:
        path: the file.
        image: the same as nibabel has opened it.
    """
    header = image.header
    coded = "sform_code" not in header or bool(header["sform_code"]) or bool(header["qform_code"])
    other = in_mm(np.asarray(image.affine, dtype=np.float64), header)
    itk = _read_by_itk(path)
    if itk is None or largest_distance(itk, other, image.shape) < ROUNDING_VOXELS * voxel_sizes(itk).min():
        return Place(other, other, coded)
    return Place(itk, other, coded)


def warn_of_contradiction(path: Path, place: Place, shape: Sequence[int]) -> None:
    """Issue a :class:`UHFWarning` when the header of a file of that shape is read in two ways."""
    said = place.contradiction(shape)
    if said is not None:
        warnings.warn(f"{path}: {said}", UHFWarning, stacklevel=1)  # from here, once a text


def largest_distance(first: Affine, second: Affine, shape: Sequence[int]) -> float:
    """How far apart two affines (4, 4) put a voxel of an image of that shape at most, in their unit."""
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in (*shape, 1, 1)[:3]], indexing="ij"), -1).reshape(-1, 3)
    return float(np.linalg.norm(apply_affine(first, corners) - apply_affine(second, corners), axis=1).max())


def unit_mm(header: Any) -> float:
    """Mm in the unit of length of a header; 1 for formats that have none but mm."""
    if "xyzt_units" not in header:
        return 1.0
    return MM.get(header.get_xyzt_units()[0], 1.0)


def in_mm(affine: Affine, header: Any) -> Affine:
    """An affine (4, 4) in the unit of a header -> in mm."""
    scaled = affine.copy()
    scaled[:3] *= unit_mm(header)
    return scaled


@contextmanager
def quiet_itk() -> Iterator[None]:
    """ITK's own warnings about headers are left out: they name lines of its code."""
    shown = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)


def _read_by_itk(path: Path) -> Affine | None:
    """ITK's reading of a header; None where it refuses the file (a sheared matrix, NIfTI-2, MGH) or sees no volume."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
    except (RuntimeError, ValueError):
        return None
    if reader.GetDimension() != 3:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(reader.GetDirection()).reshape(3, 3) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    return np.asarray(LPS_TO_RAS @ affine, dtype=np.float64)


def _lengths(sizes: Sequence[float]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)


def _point(affine: Affine) -> str:
    return "(" + ", ".join(f"{value + 0:.4g}" for value in affine[:3, 3]) + ")"
