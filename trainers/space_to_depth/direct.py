"""nnU-Net trainer of a space-to-depth keeper from image to image (ours)."""

from __future__ import annotations

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.space_to_depth.keeper import SpaceToDepthKeeper
from nnunet_uhf.networks.space_to_depth.kind import KIND
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.routes.task import EnhancementTask
from nnunet_uhf.trainers.distillation.students import build_folded, folded_options
from nnunet_uhf.trainers.image_to_image.direct import DirectTrainer
from nnunet_uhf.trainers.image_to_image.earlier_folds import of_folds
from nnunet_uhf.trainers.image_to_image.image_trainer import Plans, checked_config


class UHFKeeperTrainerDirect(DirectTrainer):
    """Source in, target out, by mean absolute error: a keeper of the efficient preset that no teacher has taught.

    It needs one training instead of two. Its maps are what its own image is made of, and nobody has told them what a
    teacher sees in high-field images.
    """

    def describe_networks(
        self, task: EnhancementTask, planned: ConfigurationManager, *, plans: Plans, configuration: str, fold: int | str
    ) -> NetworksEntry:
        """`architecture`: all arguments of the space-to-depth keeper."""
        folder = ModelFolder.of(plans["dataset_name"], type(self).__name__, plans["plans_name"], configuration)
        sizes = of_folds(task.architecture_of(SpaceToDepthKeeper), folder, configuration)
        options = {**folded_options(planned), **sizes}
        return NetworksEntry(
            network=KIND.name, architecture=checked_config(SpaceToDepthKeeper, options, dataset=plans["dataset_name"])
        )

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """A keeper and its image head with random weights."""
        return build_folded(block.networks.architecture)
