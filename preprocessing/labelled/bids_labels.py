"""Which label map of the derivatives belongs to a scan, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.tables import read_table
from nnunet_uhf.preprocessing.labelled.bids_files import OWN_SPACES, BidsFile, inherited, subject_images
from nnunet_uhf.preprocessing.labelled.label_table import HIGHEST_NUMBER, LabelTable


def label_maps(
    derivatives: Path, *, wanted: Mapping[str, str], contrasts: tuple[str, ...]
) -> dict[str, list[BidsFile]]:
    """`*_dseg` files by case in the space of the scan, from `derivatives` itself and from the pipelines in it.

    Args:
        derivatives: folder of pipelines, or of one pipeline's subjects.
        wanted: entities that a file must have, such as ``{"desc": "manual"}``, or, where the value is empty, not have.
        contrasts: suffixes of the scans; ``space-T1w`` is the space of a T1w scan.
    """
    if not derivatives.is_dir():
        raise UHFError(f"{derivatives} is not a folder: name the derivatives that hold the *_dseg label maps")
    found: dict[str, list[BidsFile]] = {}
    for root in (derivatives, *sorted(path for path in derivatives.iterdir() if path.is_dir())):
        if root.name.startswith("sub-"):
            continue
        for file in subject_images(root, ("dseg",)):
            if file.fits(wanted, own_spaces=(*OWN_SPACES, *contrasts)):
                found.setdefault(file.case, []).append(file)
    return found


def bids_table(files: Mapping[str, BidsFile], *, derivatives: Path, mapping: Path | None) -> LabelTable:
    """What the numbers mean: a user's mapping, or the `dseg.tsv` beside the label maps (columns index and name).

    Raises:
        UHFError: neither is there, or two cases disagree.
    """
    if mapping is not None:
        return LabelTable.of_file(mapping)
    agreed: dict[int, str | None] = {}
    first: Path | None = None
    for file in files.values():
        tables = inherited(file, root=derivatives, ending=".tsv")
        if not tables:
            raise UHFError(f"{file.path} has no dseg.tsv that names its labels: add one, or give --mapping")
        numbers = _read_tsv(tables[-1])
        if first is None:
            agreed, first = numbers, tables[-1]
        elif numbers != agreed:
            raise UHFError(f"{tables[-1]} and {first} name the labels differently: make them one, or give --mapping")
    return LabelTable.of_numbers(agreed, where=first or derivatives)


def _read_tsv(path: Path) -> dict[int, str | None]:
    """Numbers and names of a dseg.tsv."""
    numbers: dict[int, str | None] = {}
    for _, row in read_table(path, delimiter="\t")[1]:
        index, name = row.get("index", ""), row.get("name", "")
        if not index.isdecimal() or int(index) > HIGHEST_NUMBER or not name:
            raise UHFError(f"{path} needs a whole number in column index and a name in column name: repair it")
        if int(index) in numbers:
            raise UHFError(f"{path} names label {index} twice: keep one line")
        numbers[int(index)] = None if name.lower() == "background" else name
    if not numbers:
        raise UHFError(f"{path} names no labels: add lines with index and name")
    return dict(sorted(numbers.items()))
