"""nnU-Net's own benchmark trainers, guided; found through nnUNet_extTrainer. See `epoch_time.py`.

They train 5 epochs on CUDA, keep nothing but `benchmark_result.json`, and give the fastest epoch in seconds.
"""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.variants.benchmarking.nnUNetTrainerBenchmark_5epochs import (
    nnUNetTrainerBenchmark_5epochs,
)
from nnunetv2.training.nnUNetTrainer.variants.benchmarking.nnUNetTrainerBenchmark_5epochs_noDataLoading import (
    nnUNetTrainerBenchmark_5epochs_noDataLoading,
)

from nnunet_uhf.trainers import UHFGuidance


class UHFTrainerBenchmark_5epochs(UHFGuidance, nnUNetTrainerBenchmark_5epochs):
    """Guided, with data loading and augmentation."""


class UHFTrainerBenchmark_5epochs_noDataLoading(UHFGuidance, nnUNetTrainerBenchmark_5epochs_noDataLoading):
    """Guided, on one random batch: what the network and the optimiser take."""


__all__ = ["UHFTrainerBenchmark_5epochs", "UHFTrainerBenchmark_5epochs_noDataLoading"]
