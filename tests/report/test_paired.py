"""Trainings of several seeds in pairs: their differences count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from helpers.report_samples import CASES, spoiled, write_labels, write_raw
from nnunet_uhf.errors import UHFError
from nnunet_uhf.report.compare import compare
from nnunet_uhf.report.entries import Entry
from nnunet_uhf.report.page import _cost_rows
from nnunet_uhf.report.repeats import check_pairs, paired_trainings
from nnunet_uhf.report.trainings import Training, cost_of

# what each seed gives a and b: seeds differ by ten times what the models do
ERRORS = {"a": (0.10, 0.20, 0.30), "b": (0.09, 0.188, 0.29)}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    write_raw(tmp_path)
    for name, errors in ERRORS.items():
        for k, error in enumerate(errors, start=1):
            write_labels(tmp_path / f"{name}{k}", {case: spoiled(case, error) for case in CASES})
    return tmp_path


def run(root: Path, order: tuple[int, ...] = (2, 3), **options: Any) -> dict[str, Any]:
    again = [("a", root / "a2"), ("a", root / "a3"), *(("b", root / f"b{k}") for k in order)]
    reference = next((root / "raw").iterdir()) / "labelsTr"
    return compare(
        [], [root / "a1", root / "b1"], root / "out", names=["a", "b"], reference=reference, again=again, **options
    )


def test_pairs_of_seeds_show_what_the_spread_of_trainings_hides(root: Path) -> None:
    record = run(root, paired=True)
    repeats = record["repeats"]["b"]
    pairs = repeats["pairs"]
    expected = np.subtract(repeats["model"], repeats["baseline"])
    assert pairs["differences"] == pytest.approx(expected)
    interval = stats.t.interval(0.95, 2, expected.mean(), stats.sem(expected))
    assert pairs["mean"] == pytest.approx(expected.mean())
    assert pairs["ci"] == pytest.approx(interval)
    assert pairs["ci"][0] > 0 > repeats["ci"][0]
    assert pairs["seeds"] == [None, None, None]  # predictions do not tell
    text = " ".join(record["verdicts"]["b"]["sentences"])
    assert "in pairs of one seed" in text
    assert "other trainings may end the other way" not in text


def test_trainings_are_not_paired_unasked(root: Path) -> None:
    assert run(root)["repeats"]["b"]["pairs"] is None


def test_as_many_trainings_of_each_are_asked_for(root: Path) -> None:
    with pytest.raises(UHFError, match="--paired: a has 3 trainings and b 2; give each as many"):
        run(root, order=(2,), paired=True)


def test_models_of_other_seeds_are_no_pair() -> None:
    def model(name: str) -> Entry:
        return Entry(name, Path(name), {}, trainer="UHFTrainer")

    check_pairs([model("a"), model("b")], {"a": 1, "b": 1})
    for seeds, said in (({"a": 1, "b": 2}, "a has seed 1, b has seed 2"), ({"a": 1, "b": None}, "b has no seed")):
        with pytest.raises(UHFError, match=said):
            check_pairs([model("a"), model("b")], seeds)


def test_one_pair_has_no_interval() -> None:
    assert paired_trainings(np.array([0.3]), [4]).ci is None


def test_the_loudness_of_a_model_is_the_mean_over_its_folds() -> None:
    entry = Entry("guided", Path("guided"), {}, trainer="UHFTrainer")
    folds = [Training("0", loudness=(0.1, 0.2)), Training("1", loudness=(0.3, 0.4)), Training("2", problem="damaged")]
    cost = cost_of(entry, folds)
    assert cost.loudness == "0.200 0.300"
    rows = dict(_cost_rows([cost_of(entry, []), cost]))
    assert rows["loudness of the guidance, |added| / |skip|, finest stage first"] == ["not recorded", "0.200 0.300"]
