"""nnU-Net's own benchmark trainers, plain and guided, of epochs short enough; found through nnUNet_extTrainer.

See `epoch_time.py`. They train 5 epochs on CUDA, keep nothing but `benchmark_result.json`, and give the fastest epoch
in seconds. Epochs have EPOCH_TIME_ITERATIONS iterations where that is set: the ratio of two is that of whole ones.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.benchmarking.nnUNetTrainerBenchmark_5epochs import (
    nnUNetTrainerBenchmark_5epochs,
)
from nnunetv2.training.nnUNetTrainer.variants.benchmarking.nnUNetTrainerBenchmark_5epochs_noDataLoading import (
    nnUNetTrainerBenchmark_5epochs_noDataLoading,
)

from nnunet_uhf.trainers import UHFGuidance

ITERATIONS = "EPOCH_TIME_ITERATIONS"


class ShortEpochs(nnUNetTrainer):
    """Mixin before a benchmark trainer: as many training iterations as asked for, and a fifth of them validating."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = int(os.environ.get(ITERATIONS, self.num_iterations_per_epoch))
        self.num_val_iterations_per_epoch = max(1, self.num_iterations_per_epoch // 5)  # nnU-Net's share


class PlainTrainerBenchmark_5epochs(ShortEpochs, nnUNetTrainerBenchmark_5epochs):
    """Plain, with data loading and augmentation."""


class PlainTrainerBenchmark_5epochs_noDataLoading(ShortEpochs, nnUNetTrainerBenchmark_5epochs_noDataLoading):
    """Plain, on one random batch."""


class UHFTrainerBenchmark_5epochs(UHFGuidance, PlainTrainerBenchmark_5epochs):
    """Guided, with data loading and augmentation."""


class UHFTrainerBenchmark_5epochs_noDataLoading(UHFGuidance, PlainTrainerBenchmark_5epochs_noDataLoading):
    """Guided, on one random batch: what the network and the optimiser take."""


__all__ = [
    "PlainTrainerBenchmark_5epochs",
    "PlainTrainerBenchmark_5epochs_noDataLoading",
    "UHFTrainerBenchmark_5epochs",
    "UHFTrainerBenchmark_5epochs_noDataLoading",
]
