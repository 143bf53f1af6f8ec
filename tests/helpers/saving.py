"""A trainer that does nothing but save and load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from nnunet_uhf.trainers.base import SafeCheckpoints


class Saving(SafeCheckpoints):
    """Just what nnU-Net's save_checkpoint needs, without a dataset."""

    def __init__(self, folder: Path) -> None:
        self.local_rank, self.disable_checkpointing, self.is_ddp = 0, False, False
        self.network = torch.nn.Linear(3, 2)
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.grad_scaler = None
        self.logger = MetaLogger(str(folder), False)
        self.logger.log("train_losses", np.mean([0.5, 0.25]), 0)
        self._best_ema, self.current_epoch = np.float32(0.5), 0
        self.my_init_kwargs = {"plans": {}, "configuration": "2d", "fold": 0, "device": torch.device("cpu")}
        self.inference_allowed_mirroring_axes = (0, 1)
        self.was_initialized = True
        self.device = torch.device("cpu")
        self.output_folder = str(folder)
