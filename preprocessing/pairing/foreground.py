"""Foreground and brain masks of one scan, with plain image processing: no network."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from nnunet_uhf.imageio.nifti import Volume
from nnunet_uhf.imageio.stripped import is_skull_stripped, require_stripped
from nnunet_uhf.types import FloatArray, Mask


def brain_of_stripped(scan: Volume) -> Mask:
    """Nonzero voxels with holes filled.

    Raises:
        UHFError: the scan is not skull-stripped.
    """
    require_stripped(scan, otherwise=", or --mask hd-bet, or --mask head")
    return _filled(scan.data != 0)


def foreground(data: FloatArray) -> Mask:
    """The head, or the brain where the scan is stripped: largest part above the background, holes filled.

    Otsu's threshold on the square root of the intensity, the brightest 2 % clipped, so that fat or contrast agent
    does not push the brain below it; holes are filled in slices too, since skull and air passages open to the
    outside in 3D.
    """
    if is_skull_stripped(data):
        return _filled(data != 0)
    shifted = data - data.min()
    roots = np.sqrt(np.minimum(shifted, np.percentile(shifted, 98)))
    if roots.max() == 0:
        return shifted > 0
    return _filled(_largest(ndimage.binary_opening(roots > threshold_otsu(roots.ravel()), _structure(data.shape))))


def foreground_within(data: FloatArray, reach: Mask) -> Mask:
    """As :func:`foreground`, of a scan that was moved onto another grid and knows nothing beyond its field of view.

    The constant that fills the rest of the grid must not be taken for the background of a skull-stripped scan.
    """
    mask = np.zeros(data.shape, dtype=bool)
    for box in ndimage.find_objects(reach.astype(np.uint8)):
        mask[box] = foreground(data[box])
    return mask & reach


def outline(mask: Mask) -> Mask:
    """Voxels of the mask that touch what is not mask; the border of the array does not count.

    In stacks of few slices (8 or fewer) only neighbours in the slice count.
    """
    return mask & ~ndimage.binary_erosion(mask, _structure(mask.shape), border_value=1)


def _structure(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Face neighbours along all axes but very short ones."""
    structure = ndimage.generate_binary_structure(len(shape), 1)
    for axis, size in enumerate(shape):
        if size <= 8:
            keep = np.zeros(3, dtype=bool)
            keep[1] = True
            structure = structure & keep.reshape([3 if index == axis else 1 for index in range(len(shape))])
    return structure


def _largest(mask: Mask) -> Mask:
    """The largest connected part."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    return parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))


def _filled(mask: Mask) -> Mask:
    """Holes closed, in 3D and in each slice across the shortest axis."""
    mask = np.asarray(ndimage.binary_fill_holes(mask))
    axis = int(np.argmin(mask.shape))
    return np.stack([ndimage.binary_fill_holes(part) for part in np.moveaxis(mask, axis, 0)], axis=axis)
