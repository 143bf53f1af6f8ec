"""The record of what a fold was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.training_data import RECORD, TrainingData, cases_of_fold, refuse_changes, validated_cases

DATA = TrainingData(training=("a", "b"), validation=("c",), images="1", task="2")


def changed(**fields: object) -> TrainingData:
    return TrainingData(**{**vars(DATA), **fields})


def test_a_record_is_read_back_from_a_checkpoint_and_missing_in_old_ones() -> None:
    assert TrainingData.recorded({RECORD: json.loads(json.dumps(DATA.as_json()))}) == DATA
    oriented = changed(orientation="LAS")
    assert TrainingData.recorded({RECORD: oriented.as_json()}) == oriented
    before = {name: value for name, value in DATA.as_json().items() if name != "orientation"}
    assert TrainingData.recorded({RECORD: before}) == DATA  # of before orientations were recorded
    assert TrainingData.recorded({}) is None
    assert TrainingData.recorded({RECORD: {"training": []}}) is None


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (changed(validation=("d",)), "it held out c, splits_final.json now holds out d"),
        (changed(training=("a", "x")), "its training cases are others now: b, x came or went"),
        (changed(images="0"), "the images or their preprocessing changed since"),
        (changed(task="0"), "dataset.json asks for something else since"),
    ],
)
def test_every_change_of_the_data_is_told(now: TrainingData, words: str, tmp_path: Path) -> None:
    with pytest.raises(UHFError, match=words) as caught:
        refuse_changes(DATA, now, summary=tmp_path / "none", where=tmp_path, advice="train again", task=True)
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert str(caught.value).endswith("; train again")


def test_images_stored_in_another_orientation_since_are_told_where_both_are_known(tmp_path: Path) -> None:
    arguments = {"summary": tmp_path / "none", "where": tmp_path, "advice": "train again"}
    before, now = changed(orientation="LAS"), changed(orientation="PIR")
    with pytest.raises(UHFError, match="its images were stored in LAS, they are in PIR now"):
        refuse_changes(before, now, **arguments)
    refuse_changes(DATA, now, **arguments)
    refuse_changes(before, DATA, **arguments)


def test_the_order_of_cases_is_no_change(tmp_path: Path) -> None:
    now = changed(training=("b", "a"))
    refuse_changes(DATA, now, summary=tmp_path / "none", where=tmp_path, advice="", task=True)


def test_without_a_record_the_validation_tells_what_was_held_out(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    refuse_changes(None, DATA, summary=summary, where=tmp_path, advice="")
    summary.write_text(json.dumps({"metric_per_case": [{"case": "c"}]}))
    refuse_changes(None, DATA, summary=summary, where=tmp_path, advice="")
    with pytest.raises(UHFError, match=r"its validation was of c, splits_final\.json now holds out a"):
        refuse_changes(None, changed(validation=("a",)), summary=summary, where=tmp_path, advice="")


def test_the_cases_of_a_segmentation_s_summary_are_the_names_of_its_files(tmp_path: Path) -> None:
    rows = [{"prediction_file": "x/c.nii.gz"}, {"prediction_file": "x/d.e.nrrd"}]
    (tmp_path / "summary.json").write_text(json.dumps({"metric_per_case": rows}))
    assert validated_cases(tmp_path / "summary.json") == {"c", "d.e"}
    assert validated_cases(tmp_path / "none.json") is None


@pytest.mark.parametrize(("content", "words"), [("[", "not readable"), ("{}", "no list of folds"), ("[[]]", "no list")])
def test_a_damaged_split_file_is_told_in_one_line(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "splits_final.json").write_text(content)
    with pytest.raises(UHFError, match=words):
        cases_of_fold(tmp_path, "x", 0)


def test_a_last_digit_of_the_fingerprint_is_no_other_image(tmp_path: Path) -> None:
    def record(mean: float) -> TrainingData:
        (tmp_path / "dataset_fingerprint.json").write_text(json.dumps({"mean": mean}))
        plans = {"plans_name": "p", "configurations": {"2d": {"spacing": [1.0, 1.0], "architecture": {}}}}
        return TrainingData.of(0, ["a"], ["b"], preprocessed=tmp_path, plans=plans, configuration="2d", dataset_json={})

    assert record(1.2345678901) == record(1.2345678902)
    assert record(1.2345) != record(1.2346)
