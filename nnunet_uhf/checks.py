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


def _is_text(value: object, *, longest: int = 500, empty: bool = False, lines: bool = False) -> bool:
    """Printable text only: an escape sequence in a header must not reach a terminal."""
    if not isinstance(value, str) or len(value) > longest or not (value or empty):
        return False
    return (value.replace("\n", "") if lines else value).isprintable() or not value


def is_list(value: object, fits: Callable[[Any], bool], low: int, high: int) -> bool:
    """A list of so many items that all fit."""
    return isinstance(value, list) and low <= len(value) <= high and all(fits(item) for item in value)


def _is_plain(value: object, depth: int) -> bool:
    """Objects and lists of limited depth and length, of numbers, printable text, true, false and null."""
    if isinstance(value, dict):
        return (
            depth > 0 and len(value) <= 100 and all(_is_text(k) and _is_plain(v, depth - 1) for k, v in value.items())
        )
    if isinstance(value, list):
        return depth > 0 and len(value) <= 1000 and all(_is_plain(item, depth - 1) for item in value)
    return value is None or isinstance(value, bool) or is_number(value, -1e9, 1e9) or _is_text(value, empty=True)


Check = tuple[Callable[[Any], bool], str]


DIM: Check = (lambda value: is_int(value, 2, 3), "2 or 3")
