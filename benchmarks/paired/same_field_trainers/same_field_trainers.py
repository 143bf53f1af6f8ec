"""A keeper of the demo's phantoms that never saw their high field: the control `same_field` of `run.py`."""

from __future__ import annotations

from nnunet_uhf.trainers.demo import UHFKeeperTrainer_demo, UHFTeacherTrainer_demo
from nnunet_uhf.trainers.distillation.same_field import SameField


class UHFTeacherTrainerSameField_demo(SameField, UHFTeacherTrainer_demo):
    """A teacher of low-field images, as long as the demo's."""


class UHFKeeperTrainerSameField_demo(SameField, UHFKeeperTrainer_demo):
    """A keeper of low-field features, as long as the demo's."""

    teacher_trainer = "UHFTeacherTrainerSameField"


__all__ = ["UHFKeeperTrainerSameField_demo", "UHFTeacherTrainerSameField_demo"]
