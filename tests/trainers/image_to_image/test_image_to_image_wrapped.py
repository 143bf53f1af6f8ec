"""The keeper's training inside the wrappers nnU-Net puts around a network: DistributedDataParallel, torch.compile."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.two_ranks import OnCpu, on_two_ranks, one_of_two
from helpers.workspace import Workspace
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer


class UHFKeeperTrainerGloo(OnCpu, UHFKeeperTrainer):
    """UHFKeeperTrainer on two CPU ranks."""


class UHFKeeperTrainerCompiled(UHFKeeperTrainer):
    """nnU-Net compiles on CUDA only; this one does on the CPU."""

    def _do_i_compile(self) -> bool:
        return True


@pytest.fixture
def pairs(nnunet: Workspace, tmp_path: Path) -> TinyDataset:
    """Paired images with two held-out cases, and a hardly trained teacher that claims to be good."""
    dataset = nnunet.private("pairs", tmp_path / "pairs").dataset("pairs")
    dataset.hold_out("case_00", "case_01")
    teacher = fit(tiny_trainer(UHFTeacherTrainer, dataset, "2d", iterations=1))
    validation = Path(teacher.output_folder) / "validation"
    validation.mkdir()
    mean = {"prediction": {"psnr": 30.0}, "input": {"psnr": 20.0}}
    (validation / "summary.json").write_text(json.dumps({"mean": mean}))
    return dataset


def train_one_rank(rank: int, dataset: TinyDataset, folder: str, variables: Mapping[str, str]) -> None:
    """One rank's training of one epoch and its share of the validation; leaves weights and log in `folder`."""
    with one_of_two(rank, folder, variables):
        trainer = fit(tiny_trainer(UHFKeeperTrainerGloo, dataset, "2d"), validate=True)
        assert isinstance(trainer.network, DistributedDataParallel)
        log = {key: trainer.logger.get_value(key, step=0) for key in ("psnr", "ssim", "train_losses", "train_terms")}
        content = {"weights": trainer.network.module.state_dict(), "log": log}
        torch.save(content, Path(folder) / f"rank_{rank}.pt")


@pytest.mark.slow
def test_two_ranks_train_one_keeper_log_the_same_and_share_the_validation(pairs: TinyDataset, tmp_path: Path) -> None:
    variables = {key: value for key, value in os.environ.items() if key.startswith("nnUNet")}
    on_two_ranks(train_one_rank, pairs, str(tmp_path), variables)
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt", weights_only=False) for rank in range(2))
    assert all(torch.equal(first["weights"][key], second["weights"][key]) for key in first["weights"])
    assert first["log"] == second["log"]
    results = Path(os.environ["nnUNet_results"]) / pairs.name  # noqa: SIM112 - nnU-Net's name
    teacher = load_checkpoint_weights(results / "UHFTeacherTrainer__nnUNetPlans__2d/fold_0/checkpoint_final.pth")
    for name, value in teacher["network_weights"].items():
        assert torch.equal(first["weights"][f"teacher.{name}"], value)
    validation = results / "UHFKeeperTrainerGloo__nnUNetPlans__2d/fold_0/validation"
    summary = json.loads((validation / "summary.json").read_text())
    assert [row["case"] for row in summary["metric_per_case"]] == ["case_00", "case_01"]
    assert {path.name for path in validation.glob("*.nii.gz")} == {"case_00.nii.gz", "case_01.nii.gz"}


def test_a_compiled_training_is_one_graph_and_keeps_the_names_of_the_weights(pairs: TinyDataset) -> None:
    torch._dynamo.reset()
    with mock.patch.object(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True)):
        trainer = fit(tiny_trainer(UHFKeeperTrainerCompiled, pairs, "2d"))
    assert isinstance(trainer.network, OptimizedModule)
    saved = load_checkpoint_weights(Path(trainer.output_folder) / "checkpoint_final.pth")["network_weights"]
    assert saved.keys() == UHFKeeperTrainer.network_of(trainer.block).state_dict().keys()
