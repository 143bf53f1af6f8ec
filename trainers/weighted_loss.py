"""Trainings whose cross entropy counts rare labels and borders more: the paper's for MALC (arXiv 2402.08409)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunet_uhf.networks.weighted_loss import WeightedCrossEntropy, median_frequency_weights
from nnunet_uhf.trainers.base import SafeCheckpoints
from nnunet_uhf.trainers.guided.guidance import UHFTrainer

CASES = 50
"""Label maps that are counted at most, evenly spread over the training cases (ours)."""


class WeightedLoss(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass whose loss is nnU-Net's Dice and cross entropy: the latter is weighted.

    Each label's weight is the median over labels of their voxels in the training cases, divided by its own, at most 5;
    5 more where the label changes (:mod:`nnunet_uhf.networks.weighted_loss`). FastSurfer counts in every volume, here
    the volumes of the training are counted together, on the preprocessed grid. Soft Dice is nnU-Net's.

    Raises:
        NotImplementedError: regions, which may overlap and have no one label a voxel; a loss without cross entropy.
    """

    def initialize(self) -> None:
        """As nnU-Net; then the loss gets its weights, for which the label maps are counted."""
        if self.label_manager.has_regions:
            raise NotImplementedError(
                f"{type(self).__name__} cannot train regions: a voxel's weight is that of its one label; use UHFTrainer"
            )
        super().initialize()
        inner: Any = getattr(self.loss, "loss", self.loss)  # deep supervision wraps it
        if not isinstance(getattr(inner, "ce", None), nn.Module):
            raise NotImplementedError(f"{type(self).__name__}: {type(inner).__name__} has no cross entropy to weight")
        weights = median_frequency_weights(self.label_counts())
        shown = ", ".join(f"{weight:.3g}" for weight in weights)
        self.print_to_log_file(f"Weights of the labels in the cross entropy: {shown}; 5 more at borders")
        inner.ce = WeightedCrossEntropy(weights, ignore=self.label_manager.ignore_label)

    def label_counts(self) -> list[int]:
        """Voxels of every label in the preprocessed training cases, the background's first."""
        training, _ = self.do_split()
        chosen = [training[int(i)] for i in np.linspace(0, len(training) - 1, min(CASES, len(training)))]
        dataset = self.dataset_class(str(Path(self.preprocessed_dataset_folder)), chosen)
        labels = self.label_manager.all_labels
        counts = dict.fromkeys(labels, 0)
        for case in chosen:
            values, found = np.unique(np.asarray(dataset.load_case(case)[1]), return_counts=True)
            for value, count in zip(values.tolist(), found.tolist(), strict=True):
                if value in counts:
                    counts[value] += int(count)
                elif value == -1:  # nnU-Net's mark of what lies outside the nonzero mask
                    counts[0] += int(count)
        return [counts[label] for label in labels]


class UHFTrainerWeightedLoss(WeightedLoss, UHFTrainer):
    """UHFTrainer with the weighted loss."""


class nnUNetTrainerWeightedLoss(WeightedLoss, SafeCheckpoints):
    """Plain nnU-Net with the weighted loss: what UHFTrainerWeightedLoss is to be held against."""
