"""Tables that users write: CSV and TSV as editors and spreadsheets save them."""

from __future__ import annotations

import csv
from pathlib import Path

from nnunet_uhf.errors import UHFError

Cells = dict[str, str]
_KINDS = {",": ("CSV", "commas"), "\t": ("TSV", "tabs")}


def read_table(table: Path, *, delimiter: str = ",") -> tuple[list[str], list[tuple[int, Cells]]]:
    """Columns of a table, and its rows with their line numbers; spaces around cells and empty lines are left out.

    A byte order mark is passed over. A row that is shorter than the header has empty cells.

    Args:
        table: the file, UTF-8, with a header line.
        delimiter: between cells, a comma or a tab.

    Raises:
        UHFError: unreadable, not UTF-8, or a row with more cells than the header.
    """
    kind, separators = _KINDS[delimiter]
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except OSError as error:
        raise UHFError(f"{table} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UHFError(f"{table} is no {kind} table in UTF-8: save it as one, separated by {separators}") from error
    filled = [(number, line) for number, line in lines if any(line)]
    if not filled:
        return [], []
    (_, columns), *rest = filled
    for number, line in rest:
        if any(line[len(columns) :]):
            raise UHFError(f"line {number} of {table} has more fields than columns: quote text that holds {separators}")
    blank = [""] * len(columns)
    return columns, [
        (number, dict(zip(columns, [*line, *blank][: len(columns)], strict=True))) for number, line in rest
    ]
