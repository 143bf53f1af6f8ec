"""Folds of two domains, and what plans and datasets must not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.support import only_line, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.unpaired_samples import UNPAIRED
from nnunet_uhf.errors import UHFError
from nnunet_uhf.routes.table import read_task_of
from nnunet_uhf.routes.unpaired import UnpairedTask
from nnunet_uhf.trainers.pta.folds import domain_folds, fold_problem, require_folds
from nnunet_uhf.trainers.pta.slice_loader import DomainSliceLoader
from nnunet_uhf.trainers.pta.slices import LabelledSlices, centred_crop, cut_slices, labelled_slices


def task(low: int = 8, high: int = 30, **entries: Any) -> UnpairedTask:
    domains = {f"LF_{n}": "LF" for n in range(low)} | {f"HF_{n}": "HF" for n in range(high)}
    uhf = {"unpaired": {**UNPAIRED, "domains": domains, **entries}}
    return read_task_of(UnpairedTask, {"channel_names": {"0": "MR"}, "uhf": uhf}, dataset="D")


@pytest.mark.parametrize(("low", "high", "folds"), [(8, 30, 5), (5, 20, 5), (3, 9, 3)])
def test_every_fold_has_both_domains_on_both_sides(low: int, high: int, folds: int) -> None:
    asked = task(low, high)
    made = domain_folds(asked, asked.domains)
    assert len(made) == folds
    assert all(fold_problem(asked, fold) is None for fold in made)
    assert sorted(case for fold in made for case in fold["val"]) == sorted(asked.domains)


def test_held_out_pairs_are_validated_in_every_fold_and_learnt_from_in_none() -> None:
    subjects = {"LF_0": "anna", "HF_0": "anna", "HF_1": "anna", "LF_2": "bob", "HF_5": "bob"}
    asked = task(held_out_pairs={"LF_0": "HF_0"}, subjects=subjects)
    for fold in domain_folds(asked, asked.domains):
        assert {"LF_0", "HF_0", "HF_1"} <= set(fold["val"])
        assert ("LF_2" in fold["val"]) == ("HF_5" in fold["val"])
        assert fold_problem(asked, fold) is None


def test_folds_that_are_none_for_two_domains_are_refused_with_the_remedy(tmp_path: Path) -> None:
    asked = task(3, 3, held_out_pairs={"LF_0": "HF_0"})
    splits = tmp_path / "splits_final.json"
    wrong = {
        "holds out no case of HF": {"train": ["LF_1", "HF_1"], "val": ["LF_2"]},
        "learns from no case of LF": {"train": ["HF_1"], "val": ["LF_2", "HF_2"]},
        "learns from a subject of": {"train": ["LF_0", "HF_1"], "val": ["LF_2", "HF_2"]},
    }
    for message, split in wrong.items():
        splits.write_text(json.dumps([split]))
        with pytest.raises(UHFError, match=message) as told:
            require_folds(asked, tmp_path, asked.domains)
        assert "delete that file" in str(told.value)
    splits.unlink()
    require_folds(asked, tmp_path, asked.domains)
    assert len(json.loads(splits.read_text())) == 2
    with pytest.raises(UHFError, match="case X is of no domain"):
        require_folds(asked, tmp_path, [*asked.domains, "X"])


def test_a_domain_of_one_subject_is_too_few() -> None:
    asked = task(1, 5)
    with pytest.raises(UHFError, match="1 subject"):
        domain_folds(asked, asked.domains)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"held_out_pairs": {"HF_0": "LF_0"}}, "is no low-field case with a high-field one"),
        ({"subjects": {"X": "anna"}}, "names 'X', which is no case"),
        ({"matching": "nearest"}, "choose one of bank, position, hungarian"),
        ({"more": 1}, "unknown entries more"),
        ({"target": "LF"}, "need two names"),
        ({"domains": {"LF_0": "LF"}}, "has no case of 'HF'"),
        ({"domains": {"LF_0": "LF", "HF_0": "HF", "Z": "UHF"}}, "'Z' in neither"),
        ({"domains": 3}, "is an object from names of cases"),
    ],
)
def test_what_does_not_fit_is_named(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(UHFError, match=message):
        task(**entries)


def test_labelled_slices_know_where_they_lie() -> None:
    labels = np.zeros((1, 10, 20, 20), np.int16)
    labels[0, 2:9, 5:8, 10:16] = 1
    found = labelled_slices("case", labels)
    assert found.numbers.tolist() == list(range(2, 9))
    assert found.boxes[0].tolist() == [5, 7, 10, 15]
    assert found.positions[[0, -1]].tolist() == [0, 1]
    assert found.at(0.5) == 3
    with pytest.raises(UHFError, match="no labelled voxel"):
        labelled_slices("case", 0 * labels)


def test_a_crop_is_centred_on_the_labels_and_filled_beyond_the_image() -> None:
    image = np.arange(100, dtype=np.float32).reshape(1, 10, 10)
    crop = centred_crop(image, (0, 1, 4, 5), (4, 4), fill=-7)
    assert crop.shape == (1, 4, 4)
    assert crop[0, 0].tolist() == [-7] * 4
    assert crop[0, 1].tolist() == [3, 4, 5, 6]
    assert cut_slices(np.arange(4)[None, :, None, None], 0, 3)[:, 0, 0].tolist() == [0, 0, 1]


def test_a_batch_is_spread_over_positions_and_reads_single_slices() -> None:
    class Cases:
        """Cases whose voxels hold the number of their slice."""

        def load_case(self, case: str) -> tuple[Any, ...]:
            data = np.broadcast_to(np.arange(12, dtype=np.float32)[None, :, None, None], (1, 12, 8, 8))
            return data, np.ones((1, 12, 8, 8), np.int16), None, {}

    from nnunet_uhf.trainers.pta.slice_loader import Domain

    found = LabelledSlices(np.arange(12), np.tile([0, 7, 0, 7], (12, 1)))
    sides = {
        "source": Domain(dataset=Cases(), slices={"LF_0": found}),
        "target": Domain(dataset=Cases(), slices={"HF_0": found, "HF_1": found}),
    }

    def unchanged(image: Any, segmentation: Any) -> dict[str, Any]:
        return {"image": image, "segmentation": segmentation}

    options: dict[str, Any] = {"batch_size": 6, "crop": (8, 8), "transforms": unchanged, "slices": 3}
    batch = next(DomainSliceLoader(sides, **options))
    assert batch["data"].shape == (6, 6, 8, 8)
    position = batch["position"]
    assert sorted((position[:, 0] * 6).int().clamp(max=5).tolist()) == pytest.approx(list(range(6)), abs=1)
    assert float((position[:, 0] - position[:, 1]).abs().max()) < 0.13
    middle = batch["data"][:, [1, 4], 4, 4]
    assert np.allclose(middle / 11, position, atol=1e-6)
    partners = {("LF_0", place): ("HF_1", 11 - place) for place in range(12)}
    matched = next(DomainSliceLoader(sides, partners=partners, **options))["position"]
    assert np.allclose(matched.sum(dim=1), 1)


def test_domains_of_different_size_are_told_of(pretrained: TinyDataset) -> None:
    trainer = tiny_trainer("LSCTrainer", pretrained, "2d")
    assert not any("WARNING" in line for line in trainer.start_lines())
    trainer.volumes_ml["source"] *= 0.8
    assert any("may make up or take away anatomy" in line for line in trainer.start_lines())


def test_plans_coarser_than_the_high_field_and_patches_that_miss_labels_are_refused(
    pretrained: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    for change, message in (
        ({"spacing": [1.3, 1.3]}, "-overwrite_target_spacing"),
        ({"patch_size": [16, 16]}, "does not hold the labels of"),
    ):
        plans = pretrained.plans()
        plans["configurations"]["2d"].update(change)
        told = only_line(capsys, lambda: tiny_trainer("LSCTrainer", pretrained, "2d", plans=plans))  # noqa: B023
        assert message in told
