"""Models trained several times: their mean is compared, and the interval knows of other trainings."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.report_samples import (
    CASES,
    dataset_json,
    keeper_block,
    spoiled,
    truth,
    write_labels,
    write_model,
    write_raw,
)
from nnunet_uhf.errors import UHFError
from nnunet_uhf.report.compare import compare
from nnunet_uhf.report.entries import Entry
from nnunet_uhf.report.repeats import interval_over_trainings, mean_of_trainings, parse_again, repeats_of

ERRORS = {"a": (0.20, 0.24), "b": (0.10, 0.14)}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders with a raw dataset, and two trainings of the models a and b as predictions."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    write_raw(tmp_path)
    for name, errors in ERRORS.items():
        for k, error in enumerate(errors, start=1):
            write_labels(tmp_path / f"{name}{k}", {case: spoiled(case, error) for case in CASES})
    return tmp_path


def run(root: Path, **changes: Any) -> dict[str, Any]:
    arguments = {"again": [("a", root / "a2"), ("b", root / "b2")], **changes}
    reference = next((root / "raw").iterdir()) / "labelsTr"
    return compare([], [root / "a1", root / "b1"], root / "out", names=["a", "b"], reference=reference, **arguments)


def dice_of(root: Path, model: str, training: str, case: str) -> list[float]:
    with (root / "out" / "compare.csv").open() as file:
        return [
            float(line["value"])
            for line in csv.DictReader(file)
            if (line["model"], line["training"], line["case"], line["metric"], line["structure"])
            == (model, training, case, "dice", "mean")
        ]


def test_a_subjects_score_is_the_mean_over_the_trainings(root: Path) -> None:
    record = run(root)
    (found,) = [r for r in record["results"] if r["primary"]]
    singly = {
        (model, k): np.array([dice_of(root, model, k, case) for case in CASES]).mean() for model in "ab" for k in "12"
    }
    assert found["paired"]["baseline_mean"] == pytest.approx((singly["a", "1"] + singly["a", "2"]) / 2)
    assert found["paired"]["model_mean"] == pytest.approx((singly["b", "1"] + singly["b", "2"]) / 2)
    repeats = record["repeats"]["b"]
    assert repeats["baseline"] == pytest.approx([singly["a", "1"], singly["a", "2"]])
    assert repeats["model"] == pytest.approx([singly["b", "1"], singly["b", "2"]])
    low, high = repeats["ci"]
    narrow = found["paired"]["ci"]
    assert low < narrow[0] < found["paired"]["difference"] < narrow[1] < high
    assert record["models"][0]["again"] == [str(root / "a2")]
    text = (root / "out" / "index.html").read_text()
    assert "a was trained 2 times" in text
    assert "means over its trainings" in text
    assert "after training again" not in text


def test_without_further_trainings_nothing_is_said_of_them(root: Path) -> None:
    record = run(root, again=[])
    assert record["repeats"] == {}
    assert "was trained 1 time" not in (root / "out" / "index.html").read_text()


def test_a_gain_that_one_training_turns_round_is_not_shown(root: Path) -> None:
    write_labels(root / "c2", {case: spoiled(case, 0.3) for case in CASES})
    alone = run(root, again=[])
    assert alone["verdicts"]["b"]["kind"] == "better"
    (root / "out").rename(root / "alone")
    record = run(root, again=[("b", root / "c2"), ("a", root / "a2")])
    assert record["repeats"]["b"]["ci"][0] < 0 < record["repeats"]["b"]["ci"][1]
    assert record["verdicts"]["b"]["kind"] == "unclear"


def test_equal_trainings_give_exactly_nothing(root: Path) -> None:
    for name in "12":
        write_labels(root / f"same{name}", {case: spoiled(case, 0.2) for case in CASES})
    reference = next((root / "raw").iterdir()) / "labelsTr"
    again = [("x", root / "same2"), ("y", root / "y2")]
    for name in ("y1", "y2"):
        write_labels(root / name, {case: spoiled(case, 0.2) for case in CASES})
    record = compare(
        [], [root / "same1", root / "y1"], root / "out", names=["x", "y"], reference=reference, again=again
    )
    assert record["repeats"]["y"]["ci"] == [0.0, 0.0]
    assert record["verdicts"]["y"]["kind"] == "equal"


def test_the_keeper_of_a_further_training_spoils_the_comparison_as_well(root: Path) -> None:
    block = keeper_block([CASES[0]])
    models = [
        write_model(root, "nnUNetTrainer", {case: spoiled(case, 0.2) for case in CASES}),
        write_model(root, "UHFTrainer", {case: spoiled(case, 0.1) for case in CASES}, block=keeper_block([])),
    ]
    other = write_model(root, "UHFTrainerAgain", {case: spoiled(case, 0.1) for case in CASES}, block=block)
    record = compare(models, [], root / "out", names=["plain", "guided"], again=[("guided", other)])
    assert record["verdicts"]["guided"]["kind"] == "spoiled"
    assert any("KEEPER OF guided #2" in warning for warning in record["warnings"])


@pytest.mark.parametrize(
    ("again", "message"),
    [
        ([("c", "a2")], "nothing is called 'c'; choose among a, b"),
        ([("a", "a1")], "is in use already"),
        ([("a", "a2"), ("b", "a2")], "is in use already"),
        ([("a", "none")], "none"),
    ],
)
def test_trainings_that_cannot_be_are_refused(root: Path, again: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(UHFError, match=message) as caught:
        run(root, again=[(name, root / folder) for name, folder in again])
    assert "\n" not in str(caught.value)
    assert not (root / "out").exists()


def test_a_training_of_another_kind_is_refused_or_named(root: Path) -> None:
    models = [
        write_model(root, name, {case: spoiled(case, 0.2) for case in CASES}) for name in ("nnUNetTrainer", "Other")
    ]
    record = compare(models[:1], [root / "b1"], root / "out", names=["a", "b"], again=[("a", models[1])])
    assert any("a #2 was trained by Other, a by nnUNetTrainer" in warning for warning in record["warnings"])
    flat = models[1].rename(models[1].with_name("nnUNetTrainer__nnUNetPlans__3d_fullres"))
    with pytest.raises(UHFError, match="it is 3d_fullres, a is 2d"):
        compare(models[:1], [root / "b1"], root / "other", names=["a", "b"], again=[("a", flat)])


def test_a_training_with_other_labels_is_refused(root: Path) -> None:
    for name, labels in (("a1", None), ("b1", None), ("a2", {"background": 0, "GM": 1, "CSF": 2, "WM": 3})):
        (root / name / "dataset.json").write_text(json.dumps(dataset_json(labels)))
    with pytest.raises(UHFError, match="different labels"):
        run(root, again=[("a", root / "a2")])


def test_structures_missed_by_any_training_are_counted(root: Path) -> None:
    without = {case: np.where(truth(case) == 3, 0, truth(case)) for case in CASES}
    write_labels(root / "c2", without)
    record = run(root, again=[("a", root / "c2")])
    assert record["found_in_one_only"] == {"a": len(CASES), "b": 0}


@pytest.mark.parametrize("text", ["plain", "=folder", "plain=", ""])
def test_the_option_is_name_and_folder(text: str) -> None:
    assert parse_again(["my model=x/y=z"]) == [("my model", Path("x/y=z"))]
    with pytest.raises(UHFError, match="write NAME=FOLDER"):
        parse_again([text])


def test_the_interval_covers_the_truth_where_one_of_subjects_alone_does_not() -> None:
    rng = np.random.default_rng(0)
    covered = narrow = 0
    for trial in range(60):
        base = rng.normal(0, 1, (1, 20))
        first, second = (base + rng.normal(0, 0.5, (8, 1)) + rng.normal(0, 0.05, (8, 20)) for _ in range(2))
        low, high = interval_over_trainings(first, second, seed=trial)
        covered += low <= 0 <= high
        gains = (second - first).mean(axis=0)
        half = 1.96 * gains.std(ddof=1) / math.sqrt(20)
        narrow += abs(gains.mean()) <= half
    assert covered >= 48  # of 60; 95 % less what few trainings cost
    assert narrow < 20


def test_a_subject_without_a_score_in_one_training_is_in_neither_interval() -> None:
    one, two = Entry("a", Path("a"), {}), Entry("a #2", Path("b"), {})
    arm, other = Entry("a", Path("a"), {}, again=(two,)), Entry("b", Path("c"), {})

    def scores(a: float, second: float, b: float) -> dict[str, dict[str, dict[str, float]]]:
        return {name: {"GM": {"dice": value}} for name, value in ((one.name, a), (two.name, second), ("b", b))}

    measured = {"x": scores(0.4, math.nan, 0.5), "y": scores(0.2, 0.4, 0.5), "z": scores(math.nan, math.nan, 0.1)}
    mean = mean_of_trainings(measured, [arm, other])
    assert math.isnan(mean["x"]["a"]["GM"]["dice"])
    assert mean["y"]["a"]["GM"]["dice"] == pytest.approx(0.3)
    assert math.isnan(mean["z"]["a"]["GM"]["dice"])
    found = repeats_of(measured, arm, other, structure="GM", metric="dice", seed=0)
    assert found is not None
    assert found.baseline == pytest.approx((0.2, 0.4))  # only y has all scores
    assert found.model == (0.5,)
