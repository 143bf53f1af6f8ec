"""The files of ``nnunet-uhf volumes``: a CSV table for spreadsheets, JSON for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_uhf import __version__
from nnunet_uhf.errors import UHFError
from nnunet_uhf.report.structures import Task
from nnunet_uhf.whole_file import written_whole

DEFINITIONS = {
    "volume": "voxels of the segmentation times the volume of a voxel (determinant of the affine); of several folds "
    "the mean over them",
    "soft_volume": "sum of the probabilities times the volume of a voxel; of several folds the mean over them",
    "std": "standard deviation over the folds (n - 1)",
    "cv": "standard deviation over the folds divided by their mean; null where the mean is 0",
    "folds": "the values of the folds, in the order of the folders",
    "total": "voxels of any structure; soft only where structures do not overlap",
}
_IN_JSON_ONLY = ("volume_folds_mm3", "soft_volume_folds_mm3")
MM3_PER_ML = 1000.0


def check_outputs(table: Path, *, overwrite: bool) -> None:
    """UHFError when the table's name is no .csv, or when it or the JSON file beside it is there already."""
    if table.suffix.lower() != ".csv":
        raise UHFError(f"{table}: the name of the table must end in .csv (-o)")
    for path in (table, json_beside(table)):
        if path.exists() and not overwrite:
            raise UHFError(f"{path} is there already: name another table (-o), or replace it with --overwrite")


def json_beside(table: Path) -> Path:
    """Where the JSON file of a table lies."""
    return table.with_suffix(".json")


def write_tables(
    table: Path,
    *,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    task: Task,
    millilitres: bool,
) -> dict[str, Any]:
    """Write the JSON file, then the table, each whole or not at all; returns the content of the first.

    The table has a line for every structure of every case and one for their total, which has no label.
    """
    record = {
        "format": 1,
        "package_version": __version__,
        **settings,
        "labels": {structure.name: list(structure.values) for structure in task.structures},
        "definitions": DEFINITIONS,
        "cases": list(rows),
    }
    lines = list(_lines(rows, task, millilitres=millilitres))
    try:
        with written_whole(json_beside(table)) as temporary:
            text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        with written_whole(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    except OSError as error:
        raise UHFError(f"{table} cannot be written ({error.strerror}): check folder, space and rights (-o)") from None
    return record


def _lines(rows: Sequence[Mapping[str, Any]], task: Task, *, millilitres: bool) -> Iterator[dict[str, Any]]:
    for row in rows:
        entries = [(name, row["structures"][name]) for name in row["structures"]]
        labels = [" ".join(map(str, structure.values)) for structure in task.structures]
        # the total last: without a soft volume of its own its line has an empty cell there
        for (name, entry), label in zip([*entries, ("total", row["total"])], [*labels, ""], strict=True):
            line = {"case": row["case"], "structure": name, "label": label, "volume_mm3": entry["volume_mm3"]}
            if millilitres:
                line["volume_ml"] = entry["volume_mm3"] / MM3_PER_ML
            columns = [key for key in entries[0][1] if key not in _IN_JSON_ONLY]
            line |= {key: entry.get(key) for key in columns if key != "volume_mm3"}
            yield {key: _short(value) for key, value in line.items()}


def _short(value: Any) -> Any:
    """Numbers without the digits that are rounding."""
    return f"{value:.10g}" if isinstance(value, float) else value
