"""nnU-Net trainer of the teacher: an auto-encoder of the high-field channel (arXiv 2402.08409)."""

from __future__ import annotations

from typing import ClassVar

import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_uhf.keepers.training_block import NetworksEntry, TeacherEntry, TrainingBlock, TrainingRole
from nnunet_uhf.networks.distillation.losses import TEACHER_WEIGHTS, Weights, explained_variance, teacher_loss
from nnunet_uhf.networks.distillation.teacher import UHFTeacher
from nnunet_uhf.networks.presets import PRESETS
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.routes.task import EnhancementTask
from nnunet_uhf.trainers.distillation.students import STUDENTS, planned_strides
from nnunet_uhf.trainers.image_to_image.earlier_folds import of_folds
from nnunet_uhf.trainers.image_to_image.image_trainer import Plans, checked_config
from nnunet_uhf.trainers.image_to_image.pair_source import Pair
from nnunet_uhf.trainers.image_to_image.players import EVERYTHING, Outcome
from nnunet_uhf.trainers.image_to_image.trainer import ImageToImageTrainer


class UHFTeacherTrainer(ImageToImageTrainer):
    """Target in, target out: L_T = 100 L1 + feature reconstruction. The first of the two stages of pretraining.

    Its quality is the ceiling of everything after it: the keeper's image is decoded by this teacher's decoder.
    """

    role: ClassVar[TrainingRole] = "teacher"
    learners: ClassVar[tuple[str, ...]] = ("teacher",)
    own_weights: ClassVar[Weights] = TEACHER_WEIGHTS
    follows_preset: ClassVar[bool] = True
    detach_target: ClassVar[bool] = False
    """Stop the gradient of the feature reconstruction at the features; the paper's code does not."""

    def describe_networks(
        self, task: EnhancementTask, planned: ConfigurationManager, *, plans: Plans, configuration: str, fold: int | str
    ) -> NetworksEntry:
        """`architecture`: all arguments of the teacher."""
        folder = ModelFolder.of(plans["dataset_name"], type(self).__name__, plans["plans_name"], configuration)
        options = {
            "dim": len(planned.patch_size),
            "strides": planned_strides(planned),
            **of_folds(task.architecture_of(UHFTeacher), folder, configuration),
        }
        return NetworksEntry(architecture=checked_config(UHFTeacher, options, dataset=plans["dataset_name"]))

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
        return UHFTeacher(**block.networks.architecture)

    def compute(self, pair: Pair) -> Outcome:
        """L_T and its two parts; beside them, per level, how much of the features their reconstruction explains.

        A level close to 1 early in training has easy features: they carry no more than the level below.
        """
        output = self.network(pair.target, return_features=True)
        terms = teacher_loss(output, pair.target, detach_target=self.detach_target, weights=self.weights)
        loss = torch.stack(list(terms.values())).sum()
        with torch.no_grad():
            pairs = zip(output.features[:-1], output.reconstructed, strict=True)
            explained = {
                f"explained_variance_{level}": explained_variance(feature.float(), reconstruction.float())
                for level, (feature, reconstruction) in enumerate(pairs, start=1)
            }
        return Outcome(losses={EVERYTHING: loss}, terms={**terms, **explained}, image=output.image)
