"""A teacher that segments: a network of labelled high-field images, whose decoder maps are the knowledge (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from nnunet_uhf.networks.blocks import crop, pointwise
from nnunet_uhf.networks.distillation.teacher import Teacher, TeacherDecoder, UHFTeacher

MAX_CLASSES = 1024


class SegmentationOutput(NamedTuple):
    """What such a teacher knows of an image: ``image`` (B, 1, *S), ``logits`` (B, classes, *S), five ``features``."""

    image: Tensor
    logits: Tensor
    features: list[Tensor]


class SegmentationTeacher(Teacher):
    """A U-Net that labels high-field images; what it hands on are its decoder's five maps.

    They have the channels and strides of :class:`~.teacher.UHFTeacher`'s, so that every keeper can learn them. A second
    decoder, the one that keeper files hold, makes the image of them again: ``enhance`` works as with any keeper. A
    small share of its loss reaches the maps, which keep what a picture needs.

    Args:
        classes: logits: labels with the background, or regions.
        regions: classes overlap, as nnU-Net's regions do: each logit is a decision of its own.
        arguments: those of :class:`~.teacher.UHFTeacher`.

    Examples:
        >>> import torch
        >>> from nnunet_uhf.networks.distillation.segmentation_teacher import SegmentationTeacher
        >>> teacher = SegmentationTeacher(dim=2, base_features=4, classes=3).eval()
        >>> image, logits, features = teacher(torch.rand(1, 1, 32, 32), return_features=True)
        >>> image.shape, logits.shape, len(features)
        (torch.Size([1, 1, 32, 32]), torch.Size([1, 3, 32, 32]), 5)
    """

    def __init__(self, *, classes: int, regions: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        if not 1 <= classes <= MAX_CLASSES:
            raise ValueError(f"classes must be 1 to {MAX_CLASSES}, got {classes}")
        self.classes, self.regions = classes, regions
        self.labelling = TeacherDecoder(dim=self.dim, base_features=self.base_features, convolutions=self.convolutions)
        self.labelling.output = pointwise(self.dim, self.channels[0], classes, bias=True)

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {**super().config(), "classes": self.classes, "regions": self.regions}

    def encode(self, image: Tensor) -> list[Tensor]:
        """The decoder's five maps of ``(B, C, *S)``, finest first; of small images they cover the padding inside."""
        return self.labelling.refined(super().encode(image))

    def logits(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """``(B, classes, *size)`` of maps, its own or a keeper's."""
        labelled: Tensor = self.labelling.output(maps[0])
        return crop(labelled, size)

    def forward(self, image: Tensor, *, return_features: bool = False) -> Tensor | SegmentationOutput:
        """The image ``(B, 1, *S)`` again, alone, or with logits and maps."""
        maps = self.encode(image)
        restored = self.decode(self.perturb(maps) if self.training else maps, image.shape[2:])
        if not return_features:
            return restored
        return SegmentationOutput(restored, self.logits(maps, image.shape[2:]), maps)


def build_teacher(architecture: Mapping[str, Any]) -> UHFTeacher | SegmentationTeacher:
    """The teacher with random weights that these arguments are of: one that segments has classes."""
    return SegmentationTeacher(**architecture) if "classes" in architecture else UHFTeacher(**architecture)
