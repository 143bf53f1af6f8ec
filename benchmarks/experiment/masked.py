"""A masked autoencoder of nnU-Net's own backbone: pretraining on images without labels, without high field.

Blocks of a patch are hidden, and the network learns to fill them in, as in nnssl's masked autoencoders (Wald et al.,
"Revisiting MAE pre-training for 3D medical image segmentation", CVPR 2025): 3 of 4 blocks, loss on hidden voxels alone,
no skip is left out. Smaller here: nnU-Net's optimizer and schedule, few steps, the network of the plans.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.nnunet.build import build_backbone
from nnunet_uhf.trainers.image_to_image.transforms import without_intensity

HIDDEN = 0.75
"""Share of the blocks that is hidden."""
BLOCK = 8
"""Edge of a block in voxels; less where the patch is smaller."""


def hidden_blocks(shape: torch.Size, *, share: float = HIDDEN, block: int = BLOCK) -> Tensor:
    """Mask of a batch `(B, C, *S)`: `(B, 1, *S)`, true where hidden; as many blocks in every sample."""
    batch, _, *size = shape
    grid = [-(-n // block) for n in size]
    count = int(np.prod(grid))
    order = torch.rand(batch, count).argsort(dim=1)
    mask = (order < round(share * count)).reshape(batch, 1, *grid)
    for axis, n in enumerate(size, start=2):
        mask = mask.repeat_interleave(block, dim=axis).narrow(axis, 0, n)
    return mask


def hidden_error(output: Tensor, image: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over the hidden voxels."""
    return (F.mse_loss(output.float(), image, reduction="none") * hidden).sum() / (hidden.sum() * image.shape[1])


class MaskedPretraining(nnUNetTrainer):
    """Mixin before nnU-Net's trainer: images in, images out; no label is looked at, also not for choosing patches."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False
        self.oversample_foreground_percent = 0.0

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,  # noqa: ARG003 - of labels
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The network of the plans with as many outputs as inputs."""
        return build_backbone(
            super().build_network_architecture,
            plans_manager,
            configuration_manager,
            input_channels=num_input_channels,
            output_channels=num_input_channels,
            deep_supervision=enable_deep_supervision,
        )

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's geometry alone: what is hidden is to be filled in as it is."""
        return without_intensity(super().get_training_transforms(*args, **kwargs))

    def _error(self, batch: dict[str, Any]) -> Tensor:
        image = batch["data"].to(self.device, non_blocking=True)
        hidden = hidden_blocks(image.shape).to(self.device)
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            output = self.network(image * ~hidden)
        return hidden_error(output, image, hidden)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As nnU-Net's, with the error of what was hidden."""
        self.optimizer.zero_grad(set_to_none=True)
        error = self._error(batch)
        scaler = self.grad_scaler
        (error if scaler is None else scaler.scale(error)).backward()
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        return {"loss": error.detach().cpu().numpy()}

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The same error."""
        return {"loss": self._error(batch).cpu().numpy()}

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """The error is logged; where nnU-Net wants Dice it is given 0, since there is none."""
        self.logger.log("mean_fg_dice", 0.0, self.current_epoch)
        self.logger.log("dice_per_class_or_region", [0.0], self.current_epoch)
        self.logger.log("val_losses", float(np.mean([one["loss"] for one in val_outputs])), self.current_epoch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Nothing: the network segments nothing."""
