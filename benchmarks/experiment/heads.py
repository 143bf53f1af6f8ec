"""A linear head on the maps of a frozen keeper, trained by nnU-Net: what few labels make of maps without a backbone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_uhf.guidance.keeper_files import KEEPER_VARIABLE
from nnunet_uhf.keepers.file import build_keeper, read_keeper
from nnunet_uhf.networks.blocks import resize
from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.networks.kinds import guide_of

NORM, CONVOLUTION = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}, {2: nn.Conv2d, 3: nn.Conv3d}


class LinearHead(nn.Module):
    """Logits `(B, classes, *S)` of the standardised maps of a frozen keeper, each voxel by itself."""

    def __init__(self, keeper: Keeper, classes: int) -> None:
        super().__init__()
        self.keeper = keeper.requires_grad_(requires_grad=False)
        channels = sum(keeper.channels)
        self.norm = NORM[keeper.dim](channels, affine=False)
        self.head = CONVOLUTION[keeper.dim](channels, classes, 1)

    def train(self, mode: bool = True) -> LinearHead:
        """As `nn.Module.train`; the keeper stays as in prediction."""
        super().train(mode)
        self.keeper.eval()
        return self

    def forward(self, x: Tensor) -> Any:
        """Of images `(B, 1, *S)`."""
        with torch.no_grad():
            maps = torch.cat([resize(one, x.shape[2:]) for one in self.keeper(x)], dim=1)
        return self.head(self.norm(maps))


class TrainsLinearHead(nnUNetTrainerNoDeepSupervision):
    """Mixin before a plain trainer: the head on the keeper that nnUNet_UHF_KKN names, without deep supervision.

    UHF_EXPERIMENT_DRAWN_KEEPER=1 leaves the keeper the weights that it was built with: the control.
    """

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,  # noqa: ARG003
        configuration_manager: ConfigurationManager,  # noqa: ARG003
        num_input_channels: int,  # noqa: ARG003
        num_output_channels: int,
        enable_deep_supervision: bool = True,  # noqa: ARG003
    ) -> nn.Module:
        """The head, in the place of the network that the plans describe."""
        file = read_keeper(Path(os.environ[KEEPER_VARIABLE]))
        if os.environ.get("UHF_EXPERIMENT_DRAWN_KEEPER") == "1":
            return LinearHead(guide_of(file.header.network, file.header.architecture), num_output_channels)
        return LinearHead(build_keeper(file), num_output_channels)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is none."""
