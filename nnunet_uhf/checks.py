"""Predicates on what comes out of a JSON file, for tables of fields and what would have fitted (ours)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def is_int(value: object, low: int, high: int) -> bool:
    """A whole number, and no boolean, within the range."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, low: float, high: float) -> bool:
    """A number, and no boolean, within the range."""
    # the range excludes NaN, infinity and integers no float can hold
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_text(value: object, *, longest: int = 500, empty: bool = False, lines: bool = False) -> bool:
    """Printable text only, more than blanks: an escape sequence in a header must not reach a terminal."""
    if not isinstance(value, str) or len(value) > longest or not (value.strip() or empty):
        return False
    return (value.replace("\n", "") if lines else value).isprintable() or not value


def is_list(value: object, fits: Callable[[Any], bool], low: int, high: int) -> bool:
    """A list of so many items that all fit."""
    return isinstance(value, list) and low <= len(value) <= high and all(fits(item) for item in value)


def is_whole_numbers(value: object, low: int, high: int) -> bool:
    """A list of whole numbers within the range, at least one and none twice."""
    if not isinstance(value, list) or not value or not all(is_int(item, low, high) for item in value):
        return False
    return len(set(value)) == len(value)


def is_range(value: object) -> bool:
    """A list of two finite numbers."""
    return is_list(value, lambda item: is_number(item, -1e9, 1e9), 2, 2)


def is_plain(value: object, depth: int) -> bool:
    """Objects and lists of limited depth and length, of numbers, printable text, true, false and null."""
    if isinstance(value, dict):
        return depth > 0 and len(value) <= 100 and all(is_text(k) and is_plain(v, depth - 1) for k, v in value.items())
    if isinstance(value, list):
        return depth > 0 and len(value) <= 1000 and all(is_plain(item, depth - 1) for item in value)
    return value is None or isinstance(value, bool) or is_number(value, -1e9, 1e9) or is_text(value, empty=True)


Check = tuple[Callable[[Any], bool], str]


DIM: Check = (lambda value: is_int(value, 2, 3), "2 or 3")
