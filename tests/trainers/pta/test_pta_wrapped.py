"""A translation trained by two ranks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.two_ranks import OnCpu, on_two_ranks, one_of_two
from nnunet_uhf.trainers.pta.pta import PTATrainer


class PTATrainerGloo(OnCpu, PTATrainer):
    """PTATrainer on two CPU ranks."""


def train_one_rank(rank: int, dataset: TinyDataset, folder: str, variables: Mapping[str, str]) -> None:
    """One rank's training of one epoch; leaves weights and log in `folder`."""
    with one_of_two(rank, folder, variables):
        trainer = fit(tiny_trainer(PTATrainerGloo, dataset, "2d"))
        assert isinstance(trainer.network, DistributedDataParallel)
        log = {key: trainer.logger.get_value(key, step=0) for key in ("train_losses", "train_terms", "val_losses")}
        torch.save({"weights": trainer.translation.state_dict(), "log": log}, Path(folder) / f"rank_{rank}.pt")


@pytest.mark.slow
def test_two_ranks_train_one_translation_and_log_the_same(pretrained: TinyDataset, tmp_path: Path) -> None:
    variables = {key: value for key, value in os.environ.items() if key.startswith("nnUNet")}
    on_two_ranks(train_one_rank, pretrained, str(tmp_path), variables)
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt", weights_only=False) for rank in range(2))
    assert all(torch.equal(first["weights"][key], second["weights"][key]) for key in first["weights"])
    assert first["log"] == second["log"]
