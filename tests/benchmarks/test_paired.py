"""Paired learning curves: what the table says, and one whole run that is cut short."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from helpers.guided_runs import use_keeper
from helpers.support import REPOSITORY
from helpers.tiny_data import PLANS
from helpers.workspace import Workspace
from nnunet_uhf.errors import UHFError


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    names = ("run", "tables", "trainers")
    return SimpleNamespace(**{name: importlib.import_module(f"paired.{name}") for name in names})


def test_a_difference_is_that_of_the_seeds_both_have(benchmark: SimpleNamespace) -> None:
    first, second = {1: 60.0, 2: 55.0, 3: 58.0, 5: 1.0}, {1: 57.0, 2: 53.0, 3: 54.0, 4: 99.0}
    values = np.array([3.0, 2.0, 4.0])
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert benchmark.tables.difference(first, second) == f"+3.00 ± 1.00 [{low:+.2f}, {high:+.2f}] (3)"
    assert benchmark.tables.difference({1: 2.0}, {1: 1.0}) == "+1.00 (1)"
    assert benchmark.tables.difference({1: 2.0}, {2: 1.0}) == ""


def test_labels_in_neither_truth_nor_prediction_do_not_count(benchmark: SimpleNamespace) -> None:
    assert benchmark.tables.mean_dice([[50.0, None], [70.0, 90.0]]) == pytest.approx(70)
    assert benchmark.run._known(float("nan")) is None
    assert benchmark.run._known(12.5) == 12.5


def test_a_run_tests_every_condition_of_every_seed_and_goes_on_where_it_stopped(
    nnunet: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: SimpleNamespace
) -> None:
    for module in (benchmark.run, benchmark.trainers):
        monkeypatch.setattr(module, "EPOCHS", 1)
    dataset = nnunet.dataset("single")
    keeper = use_keeper(tmp_path, 2)
    for kind in ("raw", "preprocessed"):
        (tmp_path / f"nnUNet_{kind}").symlink_to(nnunet.root / kind)
    words = [
        "--work", str(tmp_path), "--out", str(tmp_path / "out"), "-d", dataset.name, "-c", "2d", "-p", PLANS,
        "--keeper", str(keeper), "--conditions", "plain,random", "--seeds", "2", "--steps", "10", "--points", "1",
        "--batch", "1", "--fused", "2", "--tests", f"few={dataset.raw / 'imagesTs'}",
        "--truth", str(tmp_path / "truth"),
    ]  # fmt: skip
    (tmp_path / "truth").mkdir()
    for path in (dataset.raw / "imagesTs").glob("*_0000.nii.gz"):
        image = nibabel.load(path)
        labels = nibabel.Nifti1Image((image.get_fdata() > image.get_fdata().mean()).astype(np.uint8), image.affine)
        nibabel.save(labels, tmp_path / "truth" / path.name.replace("_0000", ""))
    for _ in range(2):
        done = CliRunner().invoke(benchmark.run.app, words, catch_exceptions=False)
        assert done.exit_code == 0
        trainings = [json.loads(line) for line in (tmp_path / "out" / "trainings.jsonl").read_text().splitlines()]
        assert [(each["seed"], each["condition"]) for each in trainings] == [
            (1, "plain"), (1, "random"), (2, "plain"), (2, "random"),
        ]  # fmt: skip
    found = np.array([each["curve"]["10"]["few"] for each in trainings], dtype=float)  # trainings, scans, labels
    assert found.shape == (4, 1, 3)
    assert ((found[:, :, 0] >= 0) & (found[:, :, 0] <= 100)).all()  # the only label that is in the truth
    assert [len(each["loudness"]) for each in trainings] == [0, 3, 0, 3]
    assert all(loud > 0 for loud in trainings[1]["loudness"][:2])
    assert trainings[1]["loudness"][2] == 0  # not one of the two that are guided
    assert (tmp_path / "out" / "2d_10_reference_2_fused.png").is_file()


def test_no_two_trainings_share_a_folder(benchmark: SimpleNamespace) -> None:
    job = {"dataset": "Dataset001_Tiny", "preset": "reference", "fused": None, "seed": 1, "condition": "guided"}
    others = [{**job, **change} for change in ({"condition": "same_field"}, {"preset": "efficient"}, {"fused": 2})]
    titles = [benchmark.run.title_of(one) for one in (job, *others)]
    assert len(set(titles)) == 4
    assert titles[0] == "Dataset001_Tiny_reference_None_1_guided"


def test_scans_are_those_of_a_folder_or_of_a_pattern(tmp_path: Path, benchmark: SimpleNamespace) -> None:
    for name in ("b_r3_0000", "a_r3_0000", "a_r4_0000", "a_r4_0001"):
        (tmp_path / f"{name}.nii.gz").touch()
    assert [path.name[:4] for path in benchmark.run._scans(tmp_path)] == ["a_r3", "a_r4", "b_r3"]
    assert [path.name[:4] for path in benchmark.run._scans(tmp_path / "*_r3_0000.nii.gz")] == ["a_r3", "b_r3"]
    with pytest.raises(UHFError, match="no test images"):
        benchmark.run._scans(tmp_path / "*_r5_0000.nii.gz")
