"""Subgroups from a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.report.subgroups import parse_bins, read_subgroups

CASES = [f"c{index}" for index in range(6)]
TABLE = (
    "case,field,sex,age\nc0,0.36,F,31\nc1,3.0,M,45\nc2,0.36,,52\nc3,1.5,F,60\nc4,3.0,M,38\nc5,3.0,F,71\nnobody,7,F,5\n"
)


def table(folder: Path, text: str = TABLE) -> Path:
    path = folder / "subjects.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_few_numbers_are_groups_and_many_are_cut_at_the_median(tmp_path: Path) -> None:
    field, sex, age = read_subgroups(table(tmp_path), CASES)
    assert field.groups == {"0.36": ("c0", "c2"), "1.5": ("c3",), "3.0": ("c1", "c4", "c5")}
    assert (sex.groups, sex.unknown) == ({"F": ("c0", "c3", "c5"), "M": ("c1", "c4")}, ("c2",))
    assert age.groups == {"below 48.5": ("c0", "c1", "c4"), "48.5 and above": ("c2", "c3", "c5")}


def test_given_bounds_cut_and_a_value_on_a_bound_goes_up(tmp_path: Path) -> None:
    age = read_subgroups(table(tmp_path), CASES, {"age": [38, 60]})[2]
    assert age.groups == {"below 38": ("c0",), "38 to 60": ("c1", "c2", "c4"), "60 and above": ("c3", "c5")}


def test_bounds_are_read_as_they_are_written() -> None:
    assert parse_bins(["age=40,60", "field=1"]) == {"age": [40.0, 60.0], "field": [1.0]}


@pytest.mark.parametrize("text", ["age", "age=", "age=x", "age=60,40", "=3", "age=nan"])
def test_bounds_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(UHFError, match="--bins"):
        parse_bins([text])


@pytest.mark.parametrize(
    ("text", "bins", "message"),
    [
        ("subject,sex\nc0,F\n", {}, "column 'case'"),
        ("case\nc0\n", {}, "no column beside"),
        ("case,sex\nc0,F\nc0,M\n", {}, "line 3"),
        ("case,sex\nc0,F,M\n", {}, "line 2"),
        ("case,sex\nx,F\n", {}, "names none of the compared cases"),
        ("case,sex\n", {}, "holds no case"),
        (TABLE, {"weight": [3]}, "has no such column; it has field, sex, age"),
        (TABLE, {"sex": [3]}, "holds text"),
        ("case,code\n" + "".join(f"c{i},x{i}\n" for i in range(20)), {}, "too many for groups"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_in_one_line(
    tmp_path: Path, text: str, bins: dict[str, list[float]], message: str
) -> None:
    with pytest.raises(UHFError, match=message) as caught:
        read_subgroups(table(tmp_path, text), [f"c{i}" for i in range(20)], bins)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UHFError, match=r"none\.csv cannot be read"):
        read_subgroups(tmp_path / "none.csv", CASES)
