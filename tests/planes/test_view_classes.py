from __future__ import annotations

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.planes.classes import is_merged, match_classes, read_merged

SIDED = ["background", "Left-Thalamus", "Right-Thalamus", "Brain-Stem"]


def test_equal_names_are_matched_wherever_they_stand() -> None:
    targets = match_classes(["background", "a", "b"], ["background", "b", "a"], where="view")
    assert targets == [(0,), (2,), (1,)]
    assert not is_merged(targets)


def test_a_class_without_side_merges_the_two_of_its_name() -> None:
    targets = match_classes(SIDED, ["background", "Brain-Stem", "thalamus"], where="view")
    assert targets == [(0,), (3,), (1, 2)]
    assert is_merged(targets)


def test_a_mapping_decides_where_names_say_nothing() -> None:
    names = ["background", "th1", "th2", "stem"]
    targets = match_classes(names, ["background", "th", "stem"], merged={"th": ["th2", "th1"]}, where="view")
    assert targets == [(0,), (2, 1), (3,)]


@pytest.mark.parametrize(
    ("view", "merged", "message"),
    [
        (["background", "Thalamus"], None, "no class for 'Brain-Stem'"),
        (["background", "Pons", "Brain-Stem"], None, "'Pons' has no counterpart"),
        (["background", "Left Thalamus", "Brain-Stem"], None, "'Left Thalamus' has no counterpart"),
        (["background", "t", "Brain-Stem"], {"t": ["Left-Thalamus", "nothing"]}, "'nothing' is none of"),
        (["background", "t", "Brain-Stem"], {"u": ["Left-Thalamus", "Right-Thalamus"]}, "no class 'u'"),
        (["background", "t", "Brain-Stem"], {"t": ["Left-Thalamus", "Brain-Stem"]}, "no class for 'Right-Thalamus'"),
        ([*SIDED, "Thalamus"], None, "more than one class for 'Left-Thalamus'"),
    ],
)
def test_a_class_without_counterpart_is_named(
    view: list[str], merged: dict[str, list[str]] | None, message: str
) -> None:
    with pytest.raises(UHFError, match=message):
        match_classes(SIDED, view, merged=merged, where="view")


def test_a_mapping_in_another_shape_is_refused() -> None:
    assert read_merged({"t": ["a", "b"]}, where="file") == {"t": ["a", "b"]}
    for wrong in ("a", ["a"], [1, 2], None):
        with pytest.raises(UHFError, match="file: 't' is not followed by a list"):
            read_merged({"t": wrong}, where="file")
