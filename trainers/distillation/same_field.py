"""Teacher and keeper of the low-field image itself: the control for what comes from the higher field (ours).

Everything but the target is as in the pretraining it is held against: networks, losses, cases, lengths, augmentation.
The target is the source before its intensity augmentation.
"""

from __future__ import annotations

from typing import Any, ClassVar

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform

from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer
from nnunet_uhf.trainers.image_to_image.simulate_source import SimulateSource
from nnunet_uhf.trainers.image_to_image.trainer import ImageToImageTrainer


class TargetIsSource(BasicTransform):
    """Overwrite the target channel of the image `(C, *S)` with the source channel."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.source, self.target = source, target

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """A copy of the image with two equal channels."""
        image = data_dict["image"].clone()
        image[self.target] = image[self.source]
        return {**data_dict, "image": image}


def behind_geometry(transform: BasicTransform, inserted: BasicTransform) -> BasicTransform:
    """The augmentation with a transform behind its last spatial or simulating one, before what changes intensities."""
    parts = list(transform.transforms) if isinstance(transform, ComposeTransforms) else [transform]
    geometry = SpatialTransform | Convert2DTo3DTransform | SimulateSource
    places = [index for index, part in enumerate(parts) if isinstance(part, geometry)]
    place = places[-1] + 1 if places else 0
    return ComposeTransforms([*parts[:place], inserted, *parts[place:]])


class SameField(ImageToImageTrainer):
    """Mixin before a teacher or keeper trainer: the target is the low-field source.

    The `uhf` block says `"same_field": true`, and with it the header of a keeper file, whose target field is the
    source's. There is no row of the input in validations: it would be the target itself.
    """

    same_field: ClassVar[bool] = True

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """As without the mixin; the target becomes the source before intensities are augmented."""
        return behind_geometry(super().get_training_transforms(*args, **kwargs), self._target_is_source())

    def get_validation_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """As without the mixin; the target is the source."""
        transform = super().get_validation_transforms(*args, **kwargs)
        return ComposeTransforms([transform, self._target_is_source()])

    def _target_is_source(self) -> TargetIsSource:
        return TargetIsSource(self.pairs.source_channels[0], self.pairs.target_channel)


class UHFTeacherTrainerSameField(SameField, UHFTeacherTrainer):
    """A teacher of low-field images: the first stage of a keeper that has seen no higher field."""


class UHFKeeperTrainerSameField(SameField, UHFKeeperTrainer):
    """A keeper of low-field features: pretrained as any, on as many images, without knowledge of a higher field."""

    teacher_trainer = "UHFTeacherTrainerSameField"
