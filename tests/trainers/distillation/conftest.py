from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace


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
