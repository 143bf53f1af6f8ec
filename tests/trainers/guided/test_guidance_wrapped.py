"""Guided networks inside the wrappers nnU-Net puts around them: DistributedDataParallel and torch.compile."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from helpers.guided_runs import checkpoint, model_folder, use_keeper
from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.two_ranks import OnCpu, on_two_ranks, one_of_two
from helpers.workspace import Workspace
from nnunet_uhf.keepers.file import read_keeper
from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.trainers import UHFTrainer, UHFTrainerUnfrozenKeeper


class GlooTrainer(OnCpu, UHFTrainer):
    """UHFTrainer on two CPU ranks."""


class GlooUnfrozenTrainer(OnCpu, UHFTrainerUnfrozenKeeper):
    """The control whose keeper is trained, on two CPU ranks."""


def train_one_rank(
    rank: int, trainer_class: type[UHFTrainer], dataset: TinyDataset, folder: str, variables: Mapping[str, str]
) -> None:
    """One rank's whole training of one epoch; leaves its final weights in `folder`."""
    with one_of_two(rank, folder, variables):
        trainer = fit(tiny_trainer(trainer_class, dataset, "2d"))
        assert isinstance(trainer.network, DistributedDataParallel)
        assert trainer.batch_size == 1
        trainer.check_keeper()
        torch.save(trainer.network.module.state_dict(), Path(folder) / f"rank_{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("trainer", "frozen"), [(GlooTrainer, True), (GlooUnfrozenTrainer, False)])
def test_two_ranks_train_one_network_and_leave_a_frozen_keeper_alone(
    nnunet: Workspace, tmp_path: Path, trainer: type[UHFTrainer], frozen: bool
) -> None:
    dataset = nnunet.dataset("single")
    keeper = use_keeper(tmp_path, 2)
    tiny_trainer(UHFTrainer, dataset, "2d").do_split()  # nnU-Net's ranks would both write a missing splits file
    variables = {key: value for key, value in os.environ.items() if key.startswith("nnUNet")}
    on_two_ranks(train_one_rank, trainer, dataset, str(tmp_path), variables)
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    given = read_keeper(keeper).keeper_state
    assert all(torch.equal(first[f"keeper.{key}"], given[key]) for key in given) is frozen
    saved = checkpoint(model_folder(nnunet.results, trainer, dataset, "2d"))["network_weights"]
    assert all(torch.equal(saved[key], first[key]) for key in first)


class CompiledTrainer(UHFTrainer):
    """nnU-Net compiles on CUDA only; this one does on the CPU."""

    def _do_i_compile(self) -> bool:
        return True


def test_a_compiled_training_keeps_names_keeper_and_optimizer(nnunet: Workspace, tmp_path: Path) -> None:
    dataset = nnunet.dataset("single")
    keeper = use_keeper(tmp_path, 2)
    torch._dynamo.reset()
    with mock.patch.object(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True)):
        trainer = fit(tiny_trainer(CompiledTrainer, dataset, "2d"))
    assert isinstance(trainer.network, OptimizedModule)
    frozen = {id(parameter) for parameter in trainer.guided_network.keeper.parameters()}
    assert not frozen & {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    saved = checkpoint(model_folder(nnunet.results, CompiledTrainer, dataset, "2d"))["network_weights"]
    expected = read_keeper(keeper).keeper_state
    assert all(torch.equal(saved[f"keeper.{key}"], expected[key]) for key in expected)


def graphs() -> int:
    """Compiled since the last reset."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def as_on_cuda() -> mock._patch[mock.MagicMock]:
    """nnU-Net's trainer thinks that it may compile."""
    return mock.patch.object(nnUNetTrainer, "_do_i_compile", return_value=True)


def test_where_nnunet_compiles_the_keeper_is_a_graph_of_its_own_without_breaks(
    nnunet: Workspace, tmp_path: Path
) -> None:
    keeper = use_keeper(tmp_path, 2, spacing_mm=(1.5, 1.5))  # it sees the image resized
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager = functools.partial(torch.compile, backend="eager", fullgraph=True)
    with as_on_cuda(), mock.patch.object(torch, "compile", eager):
        trainer = tiny_trainer(UHFTrainer, nnunet.dataset("single"), "2d")
        trainer.initialize()
    network = trainer.network
    assert isinstance(network, UHFGuidedNet)  # not wrapped: names in checkpoints stay
    x = torch.randn(2, 1, *trainer.configuration_manager.patch_size)
    for epoch in range(3):
        network.train()
        sum(output.sum() for output in network(x)).backward()
        network.eval()
        with torch.no_grad():
            network(x)
        assert graphs() == 3, f"epoch {epoch}: the keeper, the rest in training, the rest in validation"
    assert not torch._dynamo.utils.counters["graph_break"]
    regions, network._regions = network._regions, None
    with torch.no_grad():
        expected = network(x)
        network._regions = regions
        for compiled, usual in zip(network(x), expected, strict=True):
            torch.testing.assert_close(compiled, usual)
    trainer.set_deep_supervision_enabled(enabled=False)
    with torch.no_grad():
        network(x[:1])
    assert graphs() == 5  # whole images, patch by patch: one more of each, of another batch
    given = read_keeper(keeper).keeper_state
    assert all(torch.equal(network.keeper.state_dict()[key], given[key]) for key in given)
