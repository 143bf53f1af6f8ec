"""Fixtures of all tests: one thread, fixed seeds, nnU-Net folders of their own."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from unittest import mock

# nnU-Net reads this once, at import
os.environ["nnUNet_def_n_proc"] = "1"  # noqa: SIM112 - the library's name
if os.environ.get("NNUNET_UHF_TEST_DEVICE", "cpu") == "cpu":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import pytest
import torch
from nnunetv2.utilities import utils as nnunet_utils

from helpers.made_scans import AFFINE, Save
from helpers.tiny_data import TinyDataset, write_image
from helpers.workspace import Workspace, environment, folders

VARIABLES = ("nnUNet_UHF_KKN", "nnUNet_UHF_GUIDE_CHANNEL", "nnUNet_extTrainer", "nnUNet_wandb_enabled")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test starts from the same random state, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - batchgenerators draws from the legacy state
    random.seed(0)


@pytest.fixture(scope="session", autouse=True)
def threads_list_files() -> Iterator[None]:
    """nnU-Net lists the files of a dataset by threads; twelve forks of a large process take most of a second."""
    with mock.patch.object(nnunet_utils, "Pool", ThreadPool):
        yield


@pytest.fixture(scope="session")
def prepared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's tiny datasets lie."""
    return tmp_path_factory.mktemp("nnunet")


@pytest.fixture(scope="session")
def prepared_datasets() -> dict[str, TinyDataset]:
    """The tiny datasets built so far, by their key in support.SPECS."""
    return {}


@pytest.fixture
def nnunet(tmp_path: Path, prepared_root: Path, prepared_datasets: dict[str, TinyDataset]) -> Iterator[Workspace]:
    """nnU-Net's folders and variables for one test: `nnunet.dataset("single")`, results of its own."""
    workspace = Workspace(prepared_root, tmp_path / "results", prepared_datasets)
    settings = {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}
    with environment(**dict.fromkeys(VARIABLES), **folders(prepared_root, workspace.results), **settings):
        workspace.activate()
        yield workspace


@pytest.fixture(scope="module")
def nnunet_module(
    tmp_path_factory: pytest.TempPathFactory, prepared_root: Path, prepared_datasets: dict[str, TinyDataset]
) -> Iterator[Workspace]:
    """Like `nnunet`, shared by the tests of one file: for trainings that several tests look at."""
    workspace = Workspace(prepared_root, tmp_path_factory.mktemp("results"), prepared_datasets)
    settings = {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}
    with environment(**dict.fromkeys(VARIABLES), **folders(prepared_root, workspace.results), **settings):
        workspace.activate()
        yield workspace


@pytest.fixture
def save() -> Save:
    """Write an array as NIfTI on the grid of the made subjects, or on another one; returns the path."""

    def write(path: Path, array: np.ndarray, *, affine: np.ndarray = AFFINE) -> Path:
        write_image(path, array, affine)
        return path

    return write
