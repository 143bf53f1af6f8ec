from __future__ import annotations

from pathlib import Path

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_uhf.nnunet.labels import class_names, left_and_right, read_structures, side_and_name, tells_sides_apart


def test_names_follow_the_channels_and_not_the_order_in_the_file() -> None:
    labels = {"b": 2, "background": 0, "ignore": 3, "a": 1}
    assert class_names({"labels": labels}, LabelManager(labels, None)) == ["background", "a", "b"]
    regions = {"background": 0, "whole": [1, 2], "ignore": 3, "part": 2}
    assert class_names({"labels": regions}, LabelManager(regions, [1, 2])) == ["whole", "part"]


@pytest.mark.parametrize(
    ("name", "side", "bare"),
    [
        ("Left-Hippocampus", "left", "hippocampus"),
        ("hippocampus_R", "right", "hippocampus"),
        ("ctx-lh-cuneus", "left", "ctx cuneus"),
        ("L_Hipp", "left", "hipp"),
        ("LeftHippocampus", "left", "hippocampus"),
        ("thalamusProperR", "right", "thalamus proper"),
        ("Lateral Ventricle", None, "lateral ventricle"),
        ("left-right commissure", None, "left right commissure"),
        ("rnerve", None, "rnerve"),
    ],
)
def test_a_side_is_a_word_of_its_own(name: str, side: str | None, bare: str) -> None:
    assert side_and_name(name) == (side, bare)


def test_left_and_right_of_a_structure_are_found_in_every_style() -> None:
    names = ["rh_insula", "Left-Putamen", "hippocampus_L", "Hippocampus R", "Brain-Stem", "right putamen", "lh_insula"]
    assert left_and_right(names) == [
        ("Left-Putamen", "right putamen"),
        ("hippocampus_L", "Hippocampus R"),
        ("lh_insula", "rh_insula"),
    ]
    assert left_and_right(["Left-Putamen", "Right-Caudate", "Left-Insula"]) == []


def test_names_that_differ_by_a_side_alone_are_a_pair_though_it_is_no_word() -> None:
    assert left_and_right(["lhipp", "rhipp", "leftputamen", "rightputamen", "insulal", "insular", "lesion"]) == [
        ("lhipp", "rhipp"),
        ("leftputamen", "rightputamen"),
        ("insulal", "insular"),
    ]
    assert tells_sides_apart(["lhipp", "rhipp"])
    assert not tells_sides_apart(["lhipp", "lesion", "cleft"])


def test_names_that_speak_of_no_side_tell_none_apart() -> None:
    assert tells_sides_apart(["Brain-Stem", "hippocampus_R"])
    assert not tells_sides_apart(["bright lesion", "cleft", "L1 vertebra"])


def test_labels_are_whole_numbers_whichever_way_json_writes_them_as_nnunet_reads_them() -> None:
    labels = {"background": 0, "b": "2", "a": 1.0, "ignore": 3}
    task = read_structures({"labels": labels}, where=Path("dataset.json"))
    assert [(each.name, each.values) for each in task.structures] == [("a", (1,)), ("b", (2,))]
    assert task.unknown([0, 1, 2, 3, 4]) == [4]
