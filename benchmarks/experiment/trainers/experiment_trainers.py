"""Trainers of `benchmarks/experiment/run.py`, found through nnUNet_extTrainer like anybody's own.

Length and seed come from the environment, so that one class serves every size of the experiment. nnUNet_UHF_SEED
decides the backbone's first weights, every patch and its augmentation: all conditions see the same draws.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the folder of the benchmarks: nnU-Net imports this file

from experiment.heads import TrainsLinearHead
from experiment.masked import MaskedPretraining
from experiment.resident import Resident
from experiment.starts import FrozenBackbone, StartsFromCondition, StartsFromWeights

from nnunet_uhf.devices import use_asked_threads
from nnunet_uhf.keepers.trained_teacher import TeacherMaps, read_trained_teacher
from nnunet_uhf.networks.blocks import crop_levels
from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.networks.distillation.teacher import Teacher
from nnunet_uhf.networks.guided.fusion_kinds import build_fusions
from nnunet_uhf.networks.guided.network import UHFGuidedNet, stage_channels
from nnunet_uhf.networks.presets import PRESETS
from nnunet_uhf.nnunet.build import build_backbone
from nnunet_uhf.trainers import (
    SeededTraining,
    UHFKeeperTrainer,
    UHFKeeperTrainerDirect,
    UHFKeeperTrainerSameField,
    UHFPrivilegedTrainer,
    UHFTeacherTrainer,
    UHFTeacherTrainerSameField,
    UHFTrainer,
    UHFTrainerEnhancedInput,
    UHFTrainerFromBaseline,
    UHFTrainerRandomKeeper,
    UHFTrainerTrainableKeeper,
    UHFTrainerUnfrozenKeeper,
    UHFTrainerZeroGuide,
)
from nnunet_uhf.trainers.distillation.same_field import SameField
from nnunet_uhf.trainers.guided.trained_fusions import TrainedFusions
from nnunet_uhf.trainers.image_to_image.transforms import OnChannels, intensity_on

PRESET = "reference"


class Setting:
    """A class attribute that is a variable of the environment at the moment when it is asked for.

    Trainings of several seeds and lengths run in one process, which imports this file once.
    """

    def __init__(self, name: str, kind: Callable[[str], Any], default: str) -> None:
        self.name, self.kind, self.default = f"UHF_EXPERIMENT_{name}", kind, default

    def __get__(self, trainer: object, owner: type) -> Any:
        return self.kind(os.environ.get(self.name, self.default))


def is_one(text: str) -> bool:
    """Of a variable that is 0 or 1."""
    return text == "1"


def is_resident(text: str) -> bool:
    """Of the lane's name."""
    return text == "resident"


SEED = Setting("SEED", int, "0")
RESIDENT = Setting("LANE", is_resident, "nnunet")
BATCHES_ON_CPU = Setting("BATCHES_ON_CPU", is_one, "0")


class Sized(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: length and threads of the environment."""

    epochs: Any = Setting("EPOCHS", int, "1")
    iterations: Any = Setting("ITERATIONS", int, "250")

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        use_asked_threads(device)
        self.num_epochs, self.num_iterations_per_epoch = self.epochs, self.iterations


class Pretraining(Resident, Sized):
    """Mixin for what is trained before: every generator that nnU-Net draws from starts from the seed."""

    resident: Any = RESIDENT
    batches_on_cpu: Any = BATCHES_ON_CPU
    seed_of_all: Any = SEED

    def initialize(self) -> None:
        """The weights are those of the seed."""
        set_seeds(self.seed_of_all)
        super().initialize()

    def on_train_start(self) -> None:
        """So are the draws."""
        super().on_train_start()
        set_seeds(self.seed_of_all)


def set_seeds(seed: int) -> None:
    """Seed every generator that nnU-Net draws from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - batchgenerators draws from the legacy state
    torch.manual_seed(seed)


class BackboneOptimizer(nnUNetTrainerAdam):
    """Mixin behind every other of a segmentation trainer: nnU-Net's SGD, or its AdamW where a learning rate is given.

    It gets somewhere in a few hundred steps. Fusions learn at a rate of their own beside either.
    """

    learning_rate: Any = Setting("LEARNING_RATE", float, "0")

    def configure_optimizers(self) -> Any:
        """As nnU-Net's trainer of that optimizer."""
        return super().configure_optimizers() if self.learning_rate else nnUNetTrainer.configure_optimizers(self)


class Experiment(SeededTraining, Resident, Sized):
    """Mixin for the segmentation trainers, with :class:`BackboneOptimizer` behind it."""

    mirrored: Any = Setting("MIRRORING", is_one, "1")
    resident: Any = RESIDENT
    batches_on_cpu: Any = BATCHES_ON_CPU

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_val_iterations_per_epoch = 1
        self.initial_lr = self.learning_rate or self.initial_lr

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802 - nnU-Net's name
        """nnU-Net's own, without mirroring where labels tell left from right."""
        *others, mirrored = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if not self.mirrored:
            mirrored = self.inference_allowed_mirroring_axes = None
        return *others, mirrored

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:  # noqa: ARG002
        """Nothing: the test subjects are predicted afterwards, and no choice is made on the validation case."""
        self.print_to_log_file("no validation: see the predictions of the test subjects")


class nnUNetTrainer_experiment(Experiment, BackboneOptimizer):
    """Plain nnU-Net: what everything is held against."""


class UHFTrainer_experiment(Experiment, UHFTrainer, BackboneOptimizer):
    """Guided."""


class UHFTrainerRandomKeeper_experiment(Experiment, UHFTrainerRandomKeeper, BackboneOptimizer):
    """Control; another random keeper for every seed."""

    keeper_seed: ClassVar[Any] = SEED


class UHFTrainerZeroGuide_experiment(Experiment, UHFTrainerZeroGuide, BackboneOptimizer):
    """Control."""


class UHFTrainerTrainableKeeper_experiment(Experiment, UHFTrainerTrainableKeeper, BackboneOptimizer):
    """Control; another start for every seed."""

    keeper_seed: ClassVar[Any] = SEED


class UHFTrainerUnfrozenKeeper_experiment(Experiment, UHFTrainerUnfrozenKeeper, BackboneOptimizer):
    """Control."""


class UHFTrainerEnhancedInput_experiment(Experiment, UHFTrainerEnhancedInput, BackboneOptimizer):
    """Control."""


class nnUNetTrainerGoesOn_experiment(StartsFromWeights, Experiment, BackboneOptimizer):
    """Control: plain nnU-Net that goes on from a finished one, for as long as what starts from the same."""


class UHFTrainerFromBaseline_experiment(Experiment, StartsFromCondition, UHFTrainerFromBaseline, BackboneOptimizer):
    """Guided from a finished plain model on."""


class UHFTrainerFrozenBaseline_experiment(FrozenBackbone, UHFTrainerFromBaseline_experiment):
    """The same, and the plain model stays as it is."""


class UHFTrainerRandomKeeperFromBaseline_experiment(
    Experiment, StartsFromCondition, UHFTrainerRandomKeeper, BackboneOptimizer
):
    """Control of the first."""

    keeper_seed: ClassVar[Any] = SEED


class UHFPrivilegedTrainer_experiment(Experiment, UHFPrivilegedTrainer, BackboneOptimizer):
    """Hears the teacher's maps of the true high-field image in a share of the batches, and predicts without."""


class nnUNetTrainerLinearHead_experiment(Experiment, TrainsLinearHead, BackboneOptimizer):
    """A linear head on the maps of a frozen keeper, without a backbone."""


class nnUNetTrainerMasked_experiment(Pretraining, MaskedPretraining):
    """A masked autoencoder of the keeper subjects' low-field images."""


class nnUNetTrainerFromMasked_experiment(StartsFromWeights, Experiment, BackboneOptimizer):
    """Plain nnU-Net that starts from it; its heads start from their own."""

    fold_of_start: Any = Setting("MASKED_FOLD", int, "0")
    with_heads = False


class UHFTrainerTrueGuides_experiment(Experiment, TrainedFusions, BackboneOptimizer):
    """Gate: the teacher's maps of the true high-field image, channel 1, guide a network that sees channel 0 alone."""

    fusion_rate: Any = PRESETS[PRESET].fusion_rate

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The plain backbone of one channel, with the teacher of UHF_EXPERIMENT_TEACHER in the place of a keeper."""
        backbone = build_backbone(
            super().build_network_architecture,
            plans_manager,
            configuration_manager,
            input_channels=num_input_channels - 1,
            output_channels=num_output_channels,
            deep_supervision=enable_deep_supervision,
        )
        maps = read_trained_teacher(Path(os.environ["UHF_EXPERIMENT_TEACHER"]), 0).network.keeper
        return TrueGuideNet(backbone, maps)

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's; intensities of the high-field image stay as they are, and plain nnU-Net's draws as well."""
        transform = super().get_training_transforms(*args, **kwargs)
        return intensity_on(transform, lambda one: OnChannels(one, [0]))


class TrueGuideNet(UHFGuidedNet):
    """Backbone of channel 0, fusions, and a frozen teacher that sees channel 1."""

    def __init__(self, backbone: nn.Module, maps: TeacherMaps) -> None:
        teacher = KeeperOfTruth(maps.teacher)
        super().__init__(
            backbone, teacher, build_fusions(PRESETS[PRESET].fusion, teacher, stage_channels(backbone)), guide_channel=1
        )

    def forward(self, x: Any) -> Any:
        """Segmentation logits of `(B, 2, *S)`."""
        return self._decoded(self.encoder(x[:, :1]), self.guides(x))


class KeeperOfTruth(Keeper):
    """The maps of a teacher with the sizes that keepers give."""

    in_channels = 1

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher
        self.dim, self.channels, self.strides = teacher.dim, teacher.channels, teacher.strides

    def forward(self, source: torch.Tensor) -> list[torch.Tensor]:
        """Five maps of `(B, 1, *S)`, finest first."""
        return crop_levels(self.teacher.encode(source), source.shape[2:], self.teacher.steps)


class UHFTeacherTrainer_experiment(Pretraining, UHFTeacherTrainer):
    """The teacher, of the length of pretraining."""


class UHFKeeperTrainer_experiment(Pretraining, UHFKeeperTrainer):
    """The keeper, of the length of pretraining."""


class UHFTeacherTrainerSameField_experiment(Pretraining, UHFTeacherTrainerSameField):
    """The teacher of the same-field control, as long."""


class UHFKeeperTrainerSameField_experiment(Pretraining, UHFKeeperTrainerSameField):
    """The keeper of the same-field control, as long."""

    teacher_trainer = "UHFTeacherTrainerSameField_experiment"


class UHFKeeperTrainerDirect_experiment(Pretraining, UHFKeeperTrainerDirect):
    """A keeper without a teacher."""


class UHFKeeperTrainerDirectSameField_experiment(Pretraining, SameField, UHFKeeperTrainerDirect):
    """The same of the low-field image itself."""


__all__ = [name for name in dir() if name.endswith("_experiment")]
