"""Augmentation of image pairs: everything spatial moves both images, everything else touches the source only (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, ImageOnlyTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform


class OnChannels(BasicTransform):
    """Apply a transform to some channels of the image `(C, *S)` and leave the others as they are."""

    def __init__(self, transform: BasicTransform, channels: Sequence[int]) -> None:
        super().__init__()
        self.transform = transform
        self.channels = list(channels)

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Cut the channels out, transform them, put them back into a copy of the image."""
        image = data_dict["image"].clone()
        image[self.channels] = self.transform(image=image[self.channels].clone())["image"]
        return {**data_dict, "image": image}


def intensity_on(transform: BasicTransform, restricted: Callable[[BasicTransform], BasicTransform]) -> BasicTransform:
    """The same augmentation with its intensity transforms replaced by what `restricted` makes of each.

    nnU-Net's intensity transforms are the `ImageOnlyTransform`s, for they leave the segmentation alone. The others
    move image and segmentation together, or set the outside of the nonzero mask to 0, where the target is 0 already.
    """
    if isinstance(transform, ComposeTransforms):
        return ComposeTransforms([intensity_on(part, restricted) for part in transform.transforms])
    if isinstance(transform, RandomTransform):
        return RandomTransform(intensity_on(transform.transform, restricted), transform.apply_probability)
    if isinstance(transform, ImageOnlyTransform):
        return restricted(transform)
    return transform


def without_intensity(transform: BasicTransform) -> BasicTransform:
    """The same augmentation without its intensity transforms."""
    if not isinstance(transform, ComposeTransforms):
        return transform
    parts = [(part.transform if isinstance(part, RandomTransform) else part, part) for part in transform.transforms]
    return ComposeTransforms([part for plain, part in parts if not isinstance(plain, ImageOnlyTransform)])
