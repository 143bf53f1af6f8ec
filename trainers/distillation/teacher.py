"""nnU-Net trainer of the teacher: an auto-encoder of the high-field channel (arXiv 2402.08409)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor, nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.training_block import NetworksEntry, TeacherEntry, TrainingBlock, TrainingRole
from nnunet_uhf.networks.distillation.losses import (
    SEGMENTATION_TEACHER_WEIGHTS,
    TEACHER_WEIGHTS,
    Weights,
    explained_variance,
    segmentation_teacher_loss,
    teacher_loss,
)
from nnunet_uhf.networks.distillation.segmentation_teacher import SegmentationOutput, SegmentationTeacher, build_teacher
from nnunet_uhf.networks.distillation.teacher import UHFTeacher
from nnunet_uhf.networks.presets import PRESETS
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.routes.task import EnhancementTask, Task
from nnunet_uhf.trainers.distillation.students import STUDENTS, planned_strides
from nnunet_uhf.trainers.image_to_image.earlier_folds import of_folds, require_teacher
from nnunet_uhf.trainers.image_to_image.image_trainer import Plans, checked_config
from nnunet_uhf.trainers.image_to_image.logger import PSNR
from nnunet_uhf.trainers.image_to_image.pair_source import Pair
from nnunet_uhf.trainers.image_to_image.players import EVERYTHING, Outcome
from nnunet_uhf.trainers.image_to_image.trainer import ImageToImageTrainer

SEGMENTATION = "segmentation"
MIN_CLASSES = 3
"""Background and two structures; of regions, three."""
LOOKED_AT = 4
"""Batches of an epoch whose input is measured."""
EARLY_EPOCHS = (1, 5, 10, 25, 50)
TOLERANCE_DB = 1.0
"""How far below its low-field input a teacher's held-out PSNR may be.

A teacher that reconstructs the high-field image worse than the low-field image resembles it caps everything after it:
a keeper with decoder 5 dB below the input was seen.
"""


def fitted_patch_psnr(truth: Tensor, image: Tensor) -> float:
    """Mean PSNR in dB of patches ``(B, 1, *S)`` after the best straight line to the truth; NaN without contrast."""
    flat_truth, flat = truth.flatten(1), image.flatten(1)
    kept = (flat_truth.std(dim=1) > 0) & (flat.std(dim=1) > 0)
    flat_truth, flat = flat_truth[kept], flat[kept]
    centred = flat - flat.mean(dim=1, keepdim=True)
    target = flat_truth - flat_truth.mean(dim=1, keepdim=True)
    gain = (centred * target).sum(dim=1, keepdim=True) / centred.square().sum(dim=1, keepdim=True)
    error = (gain * centred - target).square().mean(dim=1)
    peak = flat_truth.amax(dim=1) - flat_truth.amin(dim=1)
    return float((10 * torch.log10(peak.square() / error)).mean())


def early_look(teacher: float, low_field: float) -> str:
    """Whether a teacher of so many dB on validation patches would be good enough for a keeper, in words."""
    missing = low_field - TOLERANCE_DB - teacher
    said = f"on the same patches the low-field input has {low_field:.1f} dB, fitted"
    if missing <= 0:
        return f"Early look: {said}; a teacher of {teacher:.1f} dB is good enough for a keeper"
    return (
        f"Early look: {said}; a keeper asks for {low_field - TOLERANCE_DB:.1f} dB of its teacher at the end, of which "
        f"{missing:.1f} dB are missing yet"
    )


class UHFTeacherTrainer(ImageToImageTrainer):
    """Target in, target out: L_T = 100 L1 + feature reconstruction. The first of the two stages of pretraining.

    Its quality is the ceiling of everything after it: the keeper's image is decoded by this teacher's decoder.
    """

    role: ClassVar[TrainingRole] = "teacher"
    learners: ClassVar[tuple[str, ...]] = ("teacher",)
    own_weights: ClassVar[Weights] = TEACHER_WEIGHTS
    follows_preset: ClassVar[bool] = True
    _input_psnr: tuple[float, ...] = ()
    detach_target: ClassVar[bool] = False
    """Stop the gradient of the feature reconstruction at the features; the paper's code does not."""

    def describe_networks(
        self, task: EnhancementTask, planned: ConfigurationManager, *, plans: Plans, configuration: str, fold: int | str
    ) -> NetworksEntry:
        """`architecture`: all arguments of the teacher."""
        dataset = plans["dataset_name"]
        folder = ModelFolder.of(dataset, type(self).__name__, plans["plans_name"], configuration)
        options = {
            "dim": len(planned.patch_size),
            "strides": planned_strides(planned),
            **of_folds(task.architecture_of(UHFTeacher), folder, configuration),
        }
        segments = task.teacher == SEGMENTATION
        require_teacher(segments, folder, configuration)
        if segments:
            if self.classes.num_segmentation_heads < MIN_CLASSES:
                raise UHFError(
                    f"dataset.json of {dataset}: uhf.teacher is 'segmentation', but its labels are a mask; "
                    "give it labels of structures, automatic ones will do"
                )
            options |= {"classes": self.classes.num_segmentation_heads, "regions": self.classes.has_regions}
        network = SegmentationTeacher if segments else UHFTeacher
        return NetworksEntry(architecture=checked_config(network, options, dataset=dataset))

    def weights_for(self, task: Task) -> Weights:
        """One that segments has weights of its own."""
        weights = super().weights_for(task)
        if not (isinstance(task, EnhancementTask) and task.teacher == SEGMENTATION):
            return weights
        return {
            **SEGMENTATION_TEACHER_WEIGHTS,
            **{name: weight for name, weight in weights.items() if name not in self.own_weights},
        }

    def keeper_to_be(self, networks: NetworksEntry, task: EnhancementTask, *, dataset: str) -> NetworksEntry:
        """A keeper of this teacher: the sizes both have are the teacher's."""
        student = STUDENTS[PRESETS[task.preset].network]
        options = {**student.of_teacher(networks.architecture), **task.architecture_of(student.keeper)}
        teacher = TeacherEntry(
            architecture=networks.architecture, trainer=type(self).__name__, sha256="", psnr=0.0, input_psnr=None
        )
        architecture = checked_config(student.keeper, options, dataset=dataset)
        return NetworksEntry(architecture=architecture, network=student.network, teacher=teacher)

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """A teacher with random weights."""
        return build_teacher(block.networks.architecture)

    def on_validation_epoch_start(self) -> None:
        """As nnU-Net."""
        super().on_validation_epoch_start()
        self._input_psnr = ()

    def quality_of(self, batch: dict[str, Any], outcome: Outcome) -> dict[str, list[float]]:
        """Of the teacher's images; beside them, how near the low-field input is to the target in its first batches."""
        if not self.same_field and len(self._input_psnr) < LOOKED_AT:
            pair = self.pair_of(batch)
            self._input_psnr = (*self._input_psnr, fitted_patch_psnr(pair.target.float(), pair.source.float()))
        return super().quality_of(batch, outcome)

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """As the base; early in the training, and at its end, what its keeper will ask for."""
        super().on_validation_epoch_end(val_outputs)
        low_field = float(np.mean(self._input_psnr)) if self._input_psnr else math.nan
        looks = self.current_epoch + 1 in (*EARLY_EPOCHS, self.num_epochs)
        if math.isfinite(low_field) and looks and "classes" not in self.block.networks.architecture:
            teacher = float(self.logger.get_value(PSNR.name, step=None)[-1])
            self.print_to_log_file(early_look(teacher, low_field))

    def compute(self, pair: Pair) -> Outcome:
        """L_T and its two parts; beside them, per level, how much of the features their reconstruction explains.

        A level close to 1 early in training has easy features: they carry no more than the level below. Of a teacher
        that segments: nnU-Net's loss of its labels and the image's.
        """
        output = self.network(pair.target, return_features=True)
        if isinstance(output, SegmentationOutput):
            return self._labelled(output, pair)
        terms = teacher_loss(output, pair.target, detach_target=self.detach_target, weights=self.weights)
        loss = torch.stack(list(terms.values())).sum()
        with torch.no_grad():
            pairs = zip(output.features[:-1], output.reconstructed, strict=True)
            explained = {
                f"explained_variance_{level}": explained_variance(feature.float(), reconstruction.float())
                for level, (feature, reconstruction) in enumerate(pairs, start=1)
            }
        return Outcome(losses={EVERYTHING: loss}, terms={**terms, **explained}, image=output.image)

    def _labelled(self, output: SegmentationOutput, pair: Pair) -> Outcome:
        assert pair.labels is not None
        segmentation = self.loss(output.logits, pair.labels)
        terms = segmentation_teacher_loss(output.image, pair.target, segmentation, weights=self.weights)
        loss = torch.stack(list(terms.values())).sum()
        return Outcome(losses={EVERYTHING: loss}, terms=terms, image=output.image)
