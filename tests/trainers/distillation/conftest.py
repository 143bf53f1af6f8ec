from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from helpers.distilled import praise
from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer


@pytest.fixture(scope="module")
def workspace(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Paired images of which fold 0 holds out one, with results of each file's own."""
    own = nnunet_module.private("pairs", tmp_path_factory.mktemp("pairs"))
    own.dataset("pairs").hold_out("case_00")
    yield own
    nnunet_module.activate()


@pytest.fixture(scope="module")
def pairs(workspace: Workspace) -> TinyDataset:
    return workspace.dataset("pairs")


@pytest.fixture(scope="module")
def teacher(pairs: TinyDataset) -> Any:
    """A 2d teacher, hardly trained; its summary says what it would after a long training."""
    torch.manual_seed(0)
    trainer = fit(tiny_trainer(UHFTeacherTrainer, pairs, "2d"), validate=True)
    praise(trainer, 34.0)
    return trainer


@pytest.fixture(scope="module")
def keeper(teacher: Any, pairs: TinyDataset) -> Any:
    """A 2d keeper after one short epoch and its validation."""
    torch.manual_seed(0)
    return fit(tiny_trainer(UHFKeeperTrainer, pairs, "2d"), validate=True)
