"""Which files make a case: two folders of one name each, or a CSV table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files, case_name, is_nifti
from nnunet_uhf.imageio.tables import read_table
from nnunet_uhf.types import Spacing

_FIELD = re.compile(r"(?P<tesla>\d+(?:\.\d+)?)t(?![a-z])", re.IGNORECASE)
REQUIRED = ("case", "lf", "hf")
LABELS = ("mask", "labels")
SPACINGS = ("spacing_lf", "spacing_hf")


@dataclass(frozen=True)
class PairFiles:
    """The files of one case: low field, high field, and at most one of brain mask and label map.

    A spacing is the voxel size in mm along the file's axes, in place of a stored one that is a placeholder.
    """

    lf: Path
    hf: Path
    mask: Path | None = None
    labels: Path | None = None
    spacing_lf: Spacing | None = None
    spacing_hf: Spacing | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The files that are given, by column."""
        named = {"lf": self.lf, "hf": self.hf, "mask": self.mask, "labels": self.labels}
        return {column: path for column, path in named.items() if path is not None}


def cases_of_folders(
    lf: Path, hf: Path, *, masks: Path | None = None, labels: Path | None = None
) -> dict[str, PairFiles]:
    """Cases by file name, the same in every folder, .nii.gz or .nii.

    Raises:
        UHFError: a folder is missing or empty, or lacks a case that another has.
    """
    if masks is not None and labels is not None:
        raise UHFError(f"{masks} and {labels} are both given: give brain masks or label maps, not both")
    folders = {"lf": lf, "hf": hf}
    if masks is not None:
        folders["mask"] = masks
    if labels is not None:
        folders["labels"] = labels
    files = {column: case_files(folder) for column, folder in folders.items()}
    for case in sorted(set().union(*files.values())):
        for column, found in files.items():
            if case not in found:
                raise UHFError(
                    f"{folders[column]} holds no {case}.nii.gz: name both scans of a case alike, or use a table (--csv)"
                )
    masked, labelled = files.get("mask", {}), files.get("labels", {})
    return {
        case: PairFiles(path, files["hf"][case], mask=masked.get(case), labels=labelled.get(case))
        for case, path in files["lf"].items()
    }


def cases_of_subjects(folder: Path) -> dict[str, PairFiles]:
    """Cases of the paper's layout: a folder a subject, `S_01/3t_norm.nii` and `S_01/7t_norm.nii`.

    Of any two field strengths: in each folder one NIfTI file is named `<tesla>t` of the lower, one of the higher, with
    anything behind it. Plain `3t.nii.gz` goes before `3t_norm.nii`, which is the authors' normalised copy.

    Raises:
        UHFError: no such folder, a subject without two field strengths, or with several files of one.
    """
    if not folder.is_dir():
        raise UHFError(f"{folder} is not a folder: name the one that holds the subjects' folders")
    cases = {}
    for subject in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        by_field: dict[float, list[Path]] = {}
        for path in sorted(subject.iterdir()):
            match = _FIELD.match(path.name)
            if match and is_nifti(path):
                by_field.setdefault(float(match["tesla"]), []).append(path)
        if len(by_field) != 2:
            found = ", ".join(f"{field:g} T" for field in sorted(by_field)) or "none"
            raise UHFError(
                f"{subject} must hold scans of two field strengths, such as 3t_norm.nii and 7t_norm.nii (found: "
                f"{found}): add or remove one"
            )
        low, high = (_of_field(by_field[field], subject) for field in sorted(by_field))
        cases[subject.name] = PairFiles(low, high)
    if not cases:
        raise UHFError(f"{folder} holds no subject: name the folder that holds S_01, S_02, ..")
    return cases


def _of_field(files: list[Path], subject: Path) -> Path:
    """The scan of one field strength: the only one, or the one whose name is the field alone."""
    plain = [path for path in files if _FIELD.fullmatch(case_name(path))]
    chosen = plain if len(files) > 1 else files
    if len(chosen) != 1:
        raise UHFError(f"{subject} holds {files[0].name} and {files[1].name}: keep one scan of each field strength")
    return chosen[0]


def cases_of_table(table: Path) -> dict[str, PairFiles]:
    """Cases of a CSV file with the columns case, lf, hf; optional mask or labels, spacing_lf, spacing_hf.

    Paths are relative to the table; a spacing is three numbers such as ``0.9 0.9 5``, or empty for the stored one.

    Raises:
        UHFError: an unreadable table, a missing or unknown column, an empty field, a case twice,
            a file that is not there.
    """
    columns, rows = read_table(table)
    _check_columns(table, columns)
    cases: dict[str, PairFiles] = {}
    for line, row in rows:
        case = row["case"]
        if case in cases:
            raise UHFError(f"line {line} of {table} names case {case} again: give every case one line")
        files = {column: _file(table, line, column, row) for column in columns if column in ("lf", "hf", *LABELS)}
        sizes = {column: _spacing(table, line, column, row) for column in columns if column in SPACINGS}
        cases[case] = PairFiles(
            files["lf"],
            files["hf"],
            mask=files.get("mask"),
            labels=files.get("labels"),
            spacing_lf=sizes.get("spacing_lf"),
            spacing_hf=sizes.get("spacing_hf"),
        )
    if not cases:
        raise UHFError(f"{table} holds no case: add a line for each pair of scans")
    return cases


def _check_columns(table: Path, columns: list[str]) -> None:
    """All required columns, no unknown one, none twice, and mask or labels but not both."""
    for column in REQUIRED:
        if column not in columns:
            raise UHFError(f"{table} has no column {column!r}: its first line must be case,lf,hf and mask or labels")
    for column in columns:
        if column not in (*REQUIRED, *LABELS, *SPACINGS) or columns.count(column) > 1:
            raise UHFError(
                f"{table} has an unknown or repeated column {column!r}: use case,lf,hf, mask or labels, "
                "spacing_lf, spacing_hf"
            )
    if all(column in columns for column in LABELS):
        raise UHFError(f"{table} has the columns mask and labels: keep one of them")


def _file(table: Path, line: int, column: str, row: Mapping[str, str]) -> Path:
    """An existing file named in a row."""
    name = row[column]
    if not name or not row["case"]:
        raise UHFError(f"line {line} of {table} has an empty field: fill in case and {column}")
    path = table.parent / name
    if not path.is_file() and not path.is_symlink():  # of a link that leads nowhere, opening it tells more
        raise UHFError(f"{path} does not exist, named in line {line} of {table}: correct the path")
    return path


def _spacing(table: Path, line: int, column: str, row: Mapping[str, str]) -> Spacing | None:
    """Three lengths of a row, or None for an empty field."""
    text = row[column]
    if not text:
        return None
    try:
        x, y, z = (float(word) for word in text.split())
    except ValueError as error:
        raise UHFError(
            f"line {line} of {table} has {text!r} as {column}: write three lengths in mm such as 0.9 0.9 5"
        ) from error
    return x, y, z
