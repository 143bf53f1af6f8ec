from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.tables import read_table


def test_a_byte_order_mark_spaces_and_the_empty_lines_of_a_spreadsheet_count_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffcase, age\r\n,\r\na ,"4,5"\r\nb\r\n,,\r\n\r\n'.encode())
    assert read_table(path) == (["case", "age"], [(3, {"case": "a", "age": "4,5"}), (4, {"case": "b", "age": ""})])
    path.write_text("index\tname\n1\tgrey matter\n")
    assert read_table(path, delimiter="\t")[1] == [(2, {"index": "1", "name": "grey matter"})]
    path.write_text("")
    assert read_table(path) == ([], [])


def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for content, reason in (
        (b"case\na,b\n", "line 2 of .* more fields"),
        (b"case\n\xff\xfe\n", "no CSV table in UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(UHFError, match=reason):
            read_table(path)
    with pytest.raises(UHFError, match="cannot be read"):
        read_table(tmp_path / "no.csv")
