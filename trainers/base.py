"""Checkpoints that survive a kill (ours; nnU-Net writes in place)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunet_uhf.errors import exit_on_user_error
from nnunet_uhf.imageio.output import written_whole


class SafeCheckpoints(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: a checkpoint every epoch, each written whole or not at all.

    A training that is killed at any moment continues with `--c` from the last finished epoch.
    """

    _best_ema: float | None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.save_every = 1

    @exit_on_user_error
    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint beside its place, then move it there: the old file stays until the new one is whole."""
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        with written_whole(Path(filename), one_writer=True) as temporary:
            super().save_checkpoint(str(temporary))

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """As nnU-Net, but with the best epoch taken from the log.

        nnU-Net writes the latest checkpoint before it knows whether that epoch is the best: the first epoch after
        it could replace a better ``checkpoint_best.pth``.
        """
        super().load_checkpoint(filename_or_checkpoint)
        averages = self.logger.local_logger.my_fantastic_logging.get("ema_fg_dice", [])
        self._best_ema = max(averages, default=self._best_ema)


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside nnU-Net's wrappers: DistributedDataParallel outside, torch.compile inside."""
    if isinstance(network, DistributedDataParallel):
        network = network.module
    if isinstance(network, OptimizedModule):
        network = network._orig_mod
    return network
