"""Predicates on what comes out of a JSON file."""

from __future__ import annotations

import pytest

from nnunet_uhf.checks import is_plain, is_range, is_text, is_whole_numbers


@pytest.mark.parametrize("value", [[1], [3, 1, 2]])
def test_whole_numbers_are_within_the_range_and_none_twice(value: list[int]) -> None:
    assert is_whole_numbers(value, 1, 3)
    assert not is_whole_numbers([*value, value[0]], 1, 3)
    assert not is_whole_numbers(value, 2, 3)


@pytest.mark.parametrize("value", [[], 1, None, "12", (1, 2), [1.0], [True], [[1]]])
def test_what_is_no_list_of_whole_numbers_is_none(value: object) -> None:
    assert not is_whole_numbers(value, 0, 9)


def test_a_range_is_two_finite_numbers() -> None:
    assert is_range([1, 2.5])
    for value in ([1], [1, 2, 3], (1, 2), [1, "2"], [True, 2], [1, float("nan")], [1, float("inf")], None):
        assert not is_range(value)


def test_text_is_printable_and_more_than_blanks() -> None:
    assert is_text("T1w")
    for value in ("", "  ", "\x1b[2J", "a\nb", "a" * 501, 3, None):
        assert not is_text(value)
    assert is_text("", empty=True)
    assert is_text("a\nb", lines=True)
    assert is_text("a" * 501, longest=600)


def test_plain_values_are_of_limited_depth() -> None:
    assert is_plain({"a": [1, None, True, "b"]}, 2)
    assert not is_plain({"a": [1]}, 1)
    assert not is_plain({"a": {1}}, 3)
