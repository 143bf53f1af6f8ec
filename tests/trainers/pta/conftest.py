"""A made dataset of two domains, with the pretext networks of one fold trained for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.unpaired_samples import prepare_unpaired
from helpers.workspace import environment, folders


@pytest.fixture(scope="package")
def unpaired_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nnU-Net's folders with the dataset."""
    return tmp_path_factory.mktemp("unpaired")


@pytest.fixture(scope="package")
def pretrained(unpaired_root: Path) -> Iterator[TinyDataset]:
    """The dataset, with SGPTrainer and LSCTrainer finished on fold 0."""
    settings = {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}
    dataset = prepare_unpaired(unpaired_root)
    with environment(**folders(unpaired_root, unpaired_root / "results"), **settings):
        for name in ("SGPTrainer", "LSCTrainer"):
            fit(tiny_trainer(name, dataset, "2d"), validate=True)
        yield dataset
