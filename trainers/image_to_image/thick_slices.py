"""Thick slices inside nnU-Net's batches, whose channels have one shape: every slice fills its block (ours).

Block k is the voxels k*r .. k*r+r-1 of the target along the slice axis; its slice was sampled at the first of them.
Augmentation must not mix the copies of neighbouring slices: it acts on the slices themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchgeneratorsv2.helpers.scalar_type import RandomScalar, sample_scalar
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from torch import Tensor

NO_BLUR = 1e-3  # voxels: a kernel of one voxel


@dataclass(frozen=True)
class ThickSlices:
    """How slices lie in a patch or volume.

    Attributes:
        axis: -3, -2 or -1: counted from the end, it is the same for two and three dimensions, with and without
            channels.
        ratio: voxels of the target per slice, r.
    """

    axis: int
    ratio: int

    def of_blocks(self, image: Tensor) -> Tensor:
        """The first voxel of every block: n voxels along the slice axis -> ceil(n / r) slices."""
        first: tuple[Any, ...] = (..., slice(None, None, self.ratio), *(slice(None),) * (-self.axis - 1))
        return image[first]

    def as_blocks(self, slices: Tensor, size: int) -> Tensor:
        """Every slice r times, cut to `size` voxels along the slice axis."""
        return slices.repeat_interleave(self.ratio, dim=self.axis).narrow(self.axis, 0, size)

    def fitted(self, patch_size: Sequence[int]) -> list[int]:
        """The patch size `(*S)` with whole blocks along the slice axis, at most as large as before."""
        fitted = [int(size) for size in patch_size]
        fitted[self.axis] -= fitted[self.axis] % self.ratio
        return fitted

    def stretch(self, dim: int) -> tuple[int, ...]:
        """Voxels of the target per voxel of the source, for each of the last `dim` axes."""
        return tuple(self.ratio if axis == self.axis else 1 for axis in range(-dim, 0))


class OnSlices(BasicTransform):
    """Apply an intensity transform to the thick slices that one channel of the image `(C, *S)` repeats."""

    def __init__(self, transform: BasicTransform, channel: int, slices: ThickSlices) -> None:
        super().__init__()
        self.transform = in_plane(transform, slices.axis)
        self.channel = channel
        self.slices = slices

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Take the slices out, transform them, put their copies back into a copy of the image.

        What is 0, the outside of a nonzero mask, stays 0.
        """
        image = data_dict["image"].clone()
        source = image[[self.channel]]
        slices = self.slices.of_blocks(source)
        changed = self.transform(image=slices.contiguous().clone())["image"]
        changed[slices == 0] = 0
        image[[self.channel]] = self.slices.as_blocks(changed, source.shape[self.slices.axis])
        return {**data_dict, "image": image}


def in_plane(transform: BasicTransform, axis: int) -> BasicTransform:
    """The same transform without an effect across slices; `axis` is the slice axis, counted from the end.

    Of nnU-Net's intensity transforms, blur and the simulation of low resolution have one. Both would change what the
    simulator drew: how thick the slices are and how far apart.
    """
    if isinstance(transform, GaussianBlurTransform):
        changed = copy.copy(transform)
        changed.blur_sigma = InPlaneSigma(transform.blur_sigma, axis)
        return changed
    if isinstance(transform, SimulateLowResolutionTransform):
        changed = copy.copy(transform)
        # the last axes of an array are negative numbers, which index nnU-Net's table of scales, too
        changed.ignore_axes = (*(transform.ignore_axes or ()), axis)
        return changed
    return transform


class InPlaneSigma:
    """Sigma of a blur that leaves one axis as it is; called by batchgeneratorsv2 for each axis."""

    def __init__(self, sigma: RandomScalar, axis: int) -> None:
        self.sigma = sigma
        self.axis = axis

    def __call__(self, shape: tuple[int, ...], *, dim: int) -> float:
        """`shape` is (C, *S), `dim` the axis in it."""
        return NO_BLUR if dim - len(shape) == self.axis else float(sample_scalar(self.sigma, shape, dim=dim))
