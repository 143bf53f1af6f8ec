"""Statistics of a keeper's features over the cases of its training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.support import tiny_keeper
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace
from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.file import build_keeper, read_keeper
from nnunet_uhf.keepers.header import header_json, parse_header
from nnunet_uhf.keepers.statistics import channel_means, distances_of, features_of
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.trainers.export import statistics as module
from nnunet_uhf.trainers.export.statistics import keeper_statistics

CASES = [f"case_0{number}" for number in range(5)]


def measured(dataset: TinyDataset, keeper: KnowledgeKeeper, header: Any, **changes: Any) -> dict[str, Any] | None:
    """Statistics of the first four cases, the fifth held out."""
    options: dict[str, Any] = {
        "dataset_json": dataset.dataset_json(),
        "training": CASES[:4],
        "held_out": CASES[4:],
        **changes,
    }
    folder = options.pop("folder", dataset.preprocessed / f"nnUNetPlans_{header.configuration}")
    return keeper_statistics(header, keeper, folder, **options)


def means_of(dataset: TinyDataset, keeper: KnowledgeKeeper, header: Any, case: str) -> list[np.ndarray]:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    folder = dataset.preprocessed / f"nnUNetPlans_{header.configuration}"
    data, *_ = nnUNetDatasetBlosc2(str(folder), [case]).load_case(case)
    return channel_means(features_of(keeper), np.asarray(data[:1], dtype=np.float32), header.patch_size)


@pytest.mark.parametrize("dim", [2, 3])
def test_they_are_those_of_the_preprocessed_sources_and_pass_the_check_of_headers(
    nnunet: Workspace, tmp_path: Path, dim: int
) -> None:
    dataset = nnunet.dataset("pairs")
    file = read_keeper(tiny_keeper(tmp_path, dim))
    keeper = build_keeper(file)
    found = measured(dataset, keeper, file.header)
    assert found is not None
    assert found["cases"] == 4
    each = [means_of(dataset, keeper, file.header, case) for case in CASES]
    for level, entry in enumerate(found["levels"]):
        values = np.stack([case[level] for case in each[:4]])
        np.testing.assert_allclose(entry["mean"], values.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(entry["std"], values.std(axis=0, ddof=1), rtol=1e-3, atol=1e-6)
        held_out = distances_of(each[4], found)[level]
        assert entry["distances"]["max"] >= held_out * 0.999
    header = replace(file.header, feature_statistics=found, decoder_architecture=None, decoder_sha256=None)
    assert parse_header(header_json(header), where="here").feature_statistics == found


def test_a_simulated_source_is_the_one_of_the_validation(nnunet: Workspace, tmp_path: Path) -> None:
    dataset = nnunet.dataset("high field")
    file = read_keeper(tiny_keeper(tmp_path, 3))
    keeper = build_keeper(file)
    first, second = (measured(dataset, keeper, file.header) for _ in range(2))
    assert first == second, "drawn by the name of the case"
    assert first is not None
    target = means_of(dataset, keeper, file.header, CASES[0])
    assert max(distances_of(target, first)) > 2 * first["distances"]["max"], "the high-field image is another kind"


def test_of_many_cases_some_evenly_spread_ones_are_taken(
    nnunet: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = nnunet.dataset("pairs")
    file = read_keeper(tiny_keeper(tmp_path, 3))
    monkeypatch.setattr(module, "CASES", 3)
    found = measured(dataset, build_keeper(file), file.header, training=CASES, held_out=[])
    chosen = measured(dataset, build_keeper(file), file.header, training=CASES[::2], held_out=[])
    assert found == chosen


def test_two_cases_give_no_statistics_and_a_warning(nnunet: Workspace, tmp_path: Path) -> None:
    file = read_keeper(tiny_keeper(tmp_path, 2))
    keeper = build_keeper(file)
    with pytest.warns(UserWarning, match="2 training cases are too few"):
        assert measured(nnunet.dataset("pairs"), keeper, file.header, training=CASES[:2]) is None


def test_cases_that_are_gone_are_named_in_one_line(nnunet: Workspace, tmp_path: Path) -> None:
    dataset = nnunet.dataset("pairs")
    file = read_keeper(tiny_keeper(tmp_path, 2))
    keeper = build_keeper(file)
    with pytest.raises(UHFError, match=r"does not exist.*--no-statistics"):
        measured(dataset, keeper, file.header, folder=tmp_path / "gone")
    folder = Path(shutil.copytree(dataset.preprocessed / "nnUNetPlans_2d", tmp_path / "some"))
    (folder / "case_01.b2nd").unlink()
    with pytest.raises(UHFError, match=r"case case_01 is missing.*--no-statistics") as error:
        measured(dataset, keeper, file.header, folder=folder)
    assert "\n" not in str(error.value)


def test_an_ensemble_of_masks_is_measured_by_its_first_member() -> None:
    from nnunet_uhf.networks.siqt.unet import AnisotropicUNet

    network = AnisotropicUNet(dim=2, base_features=4, masks=16).eval()
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        first = network.keeper.features(image, 0)
        for _ in range(3):
            found = features_of(network.keeper)(image)
            assert all(torch.equal(a, b) for a, b in zip(found, first, strict=True))
