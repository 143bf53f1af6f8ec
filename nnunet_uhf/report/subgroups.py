"""Subgroups of subjects from a CSV table: field strength, sex, age, whatever its columns hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.tables import read_table

CASE = "case"
MAX_NUMERIC_GROUPS = 4  # numeric columns of more values than this are cut; field strengths are groups as they are
MAX_GROUPS = 12  # more values than this are identifiers, not groups


@dataclass(frozen=True)
class Grouping:
    """A column of the table.

    Attributes:
        column: its name.
        groups: cases by group, in order; a case without a value is in none.
        unknown: compared cases without a value.
    """

    column: str
    groups: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]


def read_subgroups(
    table: Path, cases: Sequence[str], bins: Mapping[str, Sequence[float]] | None = None
) -> list[Grouping]:
    """The groupings of a CSV table with a column `case` and at least one other.

    Columns of text, and of at most 4 different numbers, are groups as they are. Other columns of numbers are cut at the
    median of the compared cases, or at the bounds given: a value on a bound belongs to the upper group.

    Args:
        table: CSV in UTF-8 with a header line.
        cases: the compared ones; others in the table are of no account.
        bins: bounds by column.

    Raises:
        UHFError: an unreadable table, no column `case`, a case twice, no compared case in it, bounds for a column that
            is not there or holds text, more groups than a person can read.
    """
    rows = _read(table)
    bins = dict(bins or {})
    columns = [column for column in next(iter(rows.values())) if column != CASE]
    if not columns:
        raise UHFError(f"{table} has no column beside {CASE!r}: add those to group by, such as sex or field strength")
    if unknown := sorted(set(bins) - set(columns)):
        raise UHFError(f"--bins {unknown[0]}: {table} has no such column; it has {', '.join(columns)}")
    if not set(rows) & set(cases):
        raise UHFError(f"{table} names none of the compared cases: its column {CASE!r} must hold names as {cases[0]}")
    return [_grouping(table, column, rows, cases, bins.get(column)) for column in columns]


def parse_bins(texts: Sequence[str]) -> dict[str, list[float]]:
    """Bounds by column from texts such as ``age=40,60``.

    Raises:
        UHFError: another form, or numbers that do not rise.
    """
    bins = {}
    for text in texts:
        column, _, numbers = text.partition("=")
        try:
            bounds = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise UHFError(f"--bins {text}: write COLUMN=NUMBER,NUMBER,... such as age=40,60") from None
        if not column.strip() or not all(map(math.isfinite, bounds)) or sorted(set(bounds)) != bounds:
            raise UHFError(f"--bins {text}: write COLUMN=NUMBER,NUMBER,... with numbers that rise, such as age=40,60")
        bins[column.strip()] = bounds
    return bins


def _read(table: Path) -> dict[str, dict[str, str]]:
    columns, found = read_table(table)
    if CASE not in columns or "" in columns:
        raise UHFError(f"{table} needs a header line with commas, a column {CASE!r} and a name for each other")
    rows: dict[str, dict[str, str]] = {}
    for line, row in found:
        if not row[CASE] or row[CASE] in rows:
            raise UHFError(f"line {line} of {table} has no case, or one that was there before: one line a case")
        rows[row[CASE]] = row
    if not rows:
        raise UHFError(f"{table} holds no case: add a line for each")
    return rows


def _grouping(
    table: Path,
    column: str,
    rows: Mapping[str, Mapping[str, str]],
    cases: Sequence[str],
    bounds: Sequence[float] | None,
) -> Grouping:
    values = {case: rows[case][column] for case in cases if rows.get(case, {}).get(column)}
    numbers = _numbers(values)
    if bounds is not None and numbers is None:
        raise UHFError(f"--bins {column}: the column of {table} holds text; numbers alone can be cut")
    if numbers is not None and (bounds is not None or len(set(numbers.values())) > MAX_NUMERIC_GROUPS):
        cuts = list(bounds) if bounds is not None else [float(np.median(list(numbers.values())))]
        names = [f"below {cuts[0]:g}", *(f"{a:g} to {b:g}" for a, b in itertools.pairwise(cuts))]
        names.append(f"{cuts[-1]:g} and above")
        group_of = {case: names[int(np.searchsorted(cuts, number, side="right"))] for case, number in numbers.items()}
    else:
        group_of = values
        names = sorted(set(values.values()), key=float if numbers is not None else str)
    if len(names) > MAX_GROUPS:
        raise UHFError(f"{table}: column {column!r} has {len(names)} different values, too many for groups; remove it")
    groups = {name: tuple(case for case in cases if group_of.get(case) == name) for name in names}
    return Grouping(
        column,
        {name: members for name, members in groups.items() if members},
        tuple(case for case in cases if case not in values),
    )


def _numbers(values: Mapping[str, str]) -> dict[str, float] | None:
    """The values as numbers; None when one is none."""
    try:
        numbers = {case: float(value) for case, value in values.items()}
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers.values())) else None
