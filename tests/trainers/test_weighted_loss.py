"""Trainers with the weighted loss: weights of the training's own label maps, composed with guidance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from helpers.guided_runs import use_keeper
from helpers.support import fit, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.networks.weighted_loss import WeightedCrossEntropy, median_frequency_weights
from nnunet_uhf.trainers import UHFTrainerWeightedLoss, nnUNetTrainerWeightedLoss


@pytest.mark.parametrize("trainer", [nnUNetTrainerWeightedLoss, UHFTrainerWeightedLoss])
def test_the_cross_entropy_has_the_weights_of_the_training_cases_and_learns(
    nnunet: Workspace, tmp_path: Path, trainer: type, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = nnunet.dataset("single")
    use_keeper(tmp_path, 2)
    torch.manual_seed(0)
    made = tiny_trainer(trainer, dataset, "2d")
    made.initialize()
    inner = getattr(made.loss, "loss", made.loss)
    assert isinstance(inner.ce, WeightedCrossEntropy)
    assert isinstance(inner.dc, MemoryEfficientSoftDiceLoss)
    training, held_out = made.do_split()
    counts = np.zeros(4)
    for case in training:
        data = made.dataset_class(made.preprocessed_dataset_folder, [case]).load_case(case)[1]
        counts += [int((np.asarray(data) <= 0).sum()), *(int((np.asarray(data) == label).sum()) for label in (1, 2, 3))]
    assert inner.ce.weights.tolist() == pytest.approx(median_frequency_weights(counts.tolist()), rel=1e-6)
    assert held_out
    assert "Weights of the labels in the cross entropy: " in capsys.readouterr().out
    fit(made)
    assert np.isfinite(made.logger.local_logger.my_fantastic_logging["train_losses"]).all()


def test_regions_have_no_such_weights(nnunet: Workspace) -> None:
    made = tiny_trainer(nnUNetTrainerWeightedLoss, nnunet.dataset("regions"), "2d")
    with pytest.raises(NotImplementedError, match="cannot train regions"):
        made.initialize()
