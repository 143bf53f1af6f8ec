from __future__ import annotations

import io
import json
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nnunetv2.ensembling.ensemble import ensemble_folders
from rich.console import Console

from helpers.view_samples import AFFINE, SHAPE, softmax, three_views, write_case, write_view
from helpers.workspace import threaded_pools
from nnunet_uhf.errors import UHFError
from nnunet_uhf.planes.aggregation import aggregate_views
from nnunet_uhf.planes.mean import mean_probabilities

MERGED = {"background": 0, "thalamus": 1, "stem": 2}
REGIONS = {"background": 0, "brain": [1, 2], "core": 2}


def run(folders: Sequence[Path], output: Path, **options: Any) -> list[Path]:
    return aggregate_views(folders, output, num_processes=1, console=Console(file=io.StringIO()), **options)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def probabilities(path: Path) -> np.ndarray:
    return np.load(path)["probabilities"]


@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_equal_weights_are_nnunets_ensemble_to_the_last_bit(kind: str, tmp_path: Path) -> None:
    extra: dict[str, Any] = {}
    if kind == "regions":
        extra = {"labels": REGIONS, "channels": 2, "regions_class_order": [1, 2]}
    views = three_views(tmp_path, **extra)
    written = run(views, tmp_path / "ours", weights=[1, 1, 1], save_probabilities=True)
    with threaded_pools():
        ensemble_folders([str(view) for view in views], str(tmp_path / "theirs"), True, 1)
    assert [path.name for path in written] == ["a.nii.gz", "b.nii.gz"]
    for case in "ab":
        ours, theirs = (nibabel.load(tmp_path / name / f"{case}.nii.gz") for name in ("ours", "theirs"))
        np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
        assert len(np.unique(ours.dataobj)) > 2
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)
        assert ours.get_data_dtype() == theirs.get_data_dtype()
        npz = [probabilities(tmp_path / name / f"{case}.npz") for name in ("ours", "theirs")]
        assert npz[0].dtype == npz[1].dtype
        np.testing.assert_array_equal(*npz)


def test_the_default_is_the_papers_weights_and_only_their_ratio_counts(tmp_path: Path) -> None:
    views = three_views(tmp_path)
    run(views, tmp_path / "default", save_probabilities=True)
    run(views, tmp_path / "same", weights=[40, 40, 20], save_probabilities=True)
    parts = [probabilities(view / "a.npz") for view in views]
    expected = 0.4 * parts[0] + 0.4 * parts[1] + 0.2 * parts[2]
    for name in ("default", "same"):
        mean = probabilities(tmp_path / name / "a.npz")
        np.testing.assert_allclose(mean, expected, atol=1e-6)
        np.testing.assert_allclose(mean.sum(0), 1.0, atol=1e-5)
        np.testing.assert_array_equal(voxels(tmp_path / name / "a.nii.gz"), mean.argmax(0).transpose(2, 1, 0))
    record = json.loads((tmp_path / "default" / "aggregation.json").read_text())["views"]
    assert [(view["plane"], view["weight"]) for view in record] == [("axial", 0.4), ("coronal", 0.4), ("sagittal", 0.2)]


def test_the_result_can_be_ensembled_again_by_nnunet(tmp_path: Path) -> None:
    views = three_views(tmp_path)
    run(views, tmp_path / "mean", save_probabilities=True)
    with threaded_pools():
        ensemble_folders([str(tmp_path / "mean"), str(views[0])], str(tmp_path / "again"), False, 1)
    assert (tmp_path / "again" / "b.nii.gz").is_file()


def test_planes_written_in_the_plans_count_more_than_the_order(tmp_path: Path) -> None:
    views = [
        write_view(tmp_path / name, seed, plane=name) for seed, name in enumerate(("sagittal", "axial", "coronal"))
    ]
    run(views, tmp_path / "out", save_probabilities=True)
    parts = [probabilities(view / "a.npz") for view in views]
    expected = 0.2 * parts[0] + 0.4 * parts[1] + 0.4 * parts[2]
    np.testing.assert_allclose(probabilities(tmp_path / "out" / "a.npz"), expected, atol=1e-6)
    assert "plane" not in json.loads((tmp_path / "out" / "plans.json").read_text())
    half_known = [write_view(tmp_path / "x", 5), views[0], views[1]]
    with pytest.raises(UHFError, match="sagittal model, not coronal"):
        run(half_known, tmp_path / "no")


def test_classes_are_brought_together_by_name(tmp_path: Path) -> None:
    views = three_views(tmp_path)
    shuffled = {"background": 0, "stem": 1, "right_thalamus": 2, "left_thalamus": 3}
    order = [0, 3, 2, 1]
    other = write_view(tmp_path / "shuffled", 1, labels=shuffled)
    for case in "ab":
        write_case(other, case, probabilities(views[1] / f"{case}.npz")[order])
    run(views, tmp_path / "one", save_probabilities=True)
    run([views[0], other, views[2]], tmp_path / "two", save_probabilities=True)
    np.testing.assert_array_equal(*(probabilities(tmp_path / name / "a.npz") for name in ("one", "two")))


@pytest.mark.parametrize("how", ["names", "mapping"])
def test_merged_sides_add_to_the_structure_and_never_choose_the_side(how: str, tmp_path: Path) -> None:
    views = three_views(tmp_path)[:2]
    merged_labels = MERGED if how == "names" else {"background": 0, "TH": 1, "stem": 2}
    views.append(write_view(tmp_path / "merged", 2, labels=merged_labels))
    options: dict[str, Any] = {}
    if how == "mapping":
        (tmp_path / "map.json").write_text(json.dumps({"TH": ["left_thalamus", "right_thalamus"]}))
        options["sagittal_merged"] = tmp_path / "map.json"
    run(views, tmp_path / "out", save_probabilities=True, **options)
    axial, coronal, sagittal = (probabilities(view / "a.npz") for view in views)
    mean = probabilities(tmp_path / "out" / "a.npz")
    others = 0.4 * axial + 0.4 * coronal
    np.testing.assert_allclose(mean.sum(0), 1.0, atol=1e-5)
    np.testing.assert_allclose(mean[1] + mean[2], others[1] + others[2] + 0.2 * sagittal[1], atol=1e-6)
    np.testing.assert_allclose(mean[[0, 3]], others[[0, 3]] + 0.2 * sagittal[[0, 2]], atol=1e-6)
    np.testing.assert_array_equal(mean[1] > mean[2], others[1] > others[2])
    record = json.loads((tmp_path / "out" / "aggregation.json").read_text())["views"]
    assert list(record[2]["merged"].values()) == [["left_thalamus", "right_thalamus"]]
    assert record[0]["merged"] == {}


def test_a_side_that_no_other_view_sees_is_left_open() -> None:
    certain = np.zeros((3, 1, 1, 1), np.float32)
    certain[0] = 1.0
    merged = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1, 1)
    mean = mean_probabilities([certain, merged], [0.8, 0.2], [[(0,), (1,), (2,)], [(0,), (1, 2)]])
    np.testing.assert_allclose(mean.ravel(), [0.8, 0.1, 0.1], atol=1e-7)


class Workers(ThreadPoolExecutor):
    """Threads that get what processes would get: pickled copies."""

    def __init__(self, workers: int, *, mp_context: Any) -> None:
        assert workers == 2
        super().__init__(workers)

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
        return super().submit(*pickle.loads(pickle.dumps((function, *arguments))))


class KilledWorkers(Workers):
    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
        raise BrokenProcessPool


def test_several_workers_write_what_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views = three_views(tmp_path)
    run(views, tmp_path / "one")
    console = Console(file=io.StringIO())
    monkeypatch.setattr("nnunet_uhf.workers.ProcessPoolExecutor", Workers)
    aggregate_views(views, tmp_path / "two", num_processes=5, console=console)
    for case in "ab":
        np.testing.assert_array_equal(*(voxels(tmp_path / name / f"{case}.nii.gz") for name in ("one", "two")))
    monkeypatch.setattr("nnunet_uhf.workers.ProcessPoolExecutor", KilledWorkers)
    with pytest.raises(UHFError, match="use fewer at a time"):
        aggregate_views(views, tmp_path / "three", num_processes=5, console=console)
    assert not (tmp_path / "three").exists()


def test_validation_folders_are_described_by_their_model_folder(tmp_path: Path) -> None:
    views = []
    for view in three_views(tmp_path):
        validation = tmp_path / f"model_{view.name}" / "fold_0" / "validation"
        validation.parent.mkdir(parents=True)
        view.rename(validation)
        for name in ("plans.json", "dataset.json"):
            (validation / name).rename(validation.parent.parent / name)
        views.append(validation)
    assert len(run(views, tmp_path / "out")) == 2


def test_folders_that_do_not_belong_together_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    views = three_views(tmp_path)
    output = tmp_path / "out"

    def refused(message: str, folders: Sequence[Path] = views, **options: Any) -> None:
        before = sorted(path.name for path in tmp_path.iterdir())
        with pytest.raises(UHFError, match=message) as caught:
            run(folders, output, **options)
        assert "\n" not in str(caught.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    refused("one folder is no three views", views[:1])
    refused("not a folder", [*views[:2], tmp_path / "gone"])
    refused("give one weight a folder", views[:2])
    refused("3 folders .* but 2 weights", weights=[1, 1])
    for weights in ([0, 0, 0], [1, -1, 1], [1, float("nan"), 1]):
        refused("--weights", weights=weights)
    refused("b.npz is missing", [*views[:2], write_view(tmp_path / "short", 3, cases=("a",))])
    refused(
        "'pons' has no counterpart", [*views[:2], write_view(tmp_path / "c", 3, labels={"background": 0, "pons": 1})]
    )
    merged = write_view(tmp_path / "merged", 4, labels=MERGED)
    refused("tells the sides apart", [*views[:2], merged], weights=[0, 0, 1])
    region = write_view(tmp_path / "regions", 5, labels=REGIONS, channels=2, regions_class_order=[1, 2])
    refused("regions cannot be merged", [*views[:2], region])
    refused("only NIfTI", [write_view(tmp_path / "nrrd", 6, file_ending=".nrrd"), *views[1:]])
    (tmp_path / "map.json").write_text("[]")
    refused("not a JSON object", sagittal_merged=tmp_path / "map.json")
    refused("no probabilities", [write_view(tmp_path / f"empty{i}", 7, cases=()) for i in range(3)])
    (views[1] / "plans.json").unlink()
    refused("plans.json does not exist; predict with")


def test_damaged_predictions_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    for number, (damage, message) in enumerate(
        [
            (lambda view: (view / "b.npz").write_bytes(b"PK damaged"), r"b\.npz holds no readable probabilities"),
            (lambda view: np.savez(view / "b.npz", softmax=np.zeros(3)), r"b\.npz holds no readable probabilities"),
            (lambda view: np.savez(view / "b.npz", probabilities=np.zeros((4, 2, 2, 2))), "expected"),
            (lambda view: np.savez(view / "b.npz", probabilities=np.full((4, *SHAPE), np.nan)), "NaN"),
            (lambda view: write_case(view, "b", softmax(4, 0), AFFINE + np.eye(4, k=3)), "mm off"),
            (lambda view: (view / "b.nii.gz").unlink(), r"b\.nii\.gz is missing"),
            (lambda view: (view / "b.nii.gz").write_bytes(b"no image"), "cannot be read"),
        ]
    ):
        root = tmp_path / str(number)
        views = three_views(root)
        damage(views[1])
        with pytest.raises(UHFError, match=message):
            run(views, root / "out")
        assert sorted(path.name for path in root.iterdir()) == ["axial", "coronal", "sagittal"]


def test_an_output_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    views = three_views(tmp_path)
    with pytest.raises(UHFError, match="not empty"):
        run(views, views[0])
