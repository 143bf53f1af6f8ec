"""``nnunet-uhf bids``: predicted label maps and their volumes as BIDS derivatives (ours, after BIDS 1.9).

Without pybids: what is written here is a few names and small files, and pybids would bring a database of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from nnunet_uhf import __version__
from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.evaluation.volumes import measure_volumes
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.label_maps import label_volume
from nnunet_uhf.imageio.nifti import write_labels
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.nnunet.labels import names_of_values, read_structures
from nnunet_uhf.nnunet.model_folder import DATASET_JSON, description_of

BIDS_VERSION = "1.9.0"
_ENTITIES = re.compile(r"sub-(?P<sub>[A-Za-z0-9]+)(?:_ses-(?P<ses>[A-Za-z0-9]+))?(?:_.*)?")
_LABEL = re.compile(r"[A-Za-z0-9]+")
README = """Label maps that a network predicted, and their volumes. Estimates that nobody has checked.
Research software. Not a medical device.
"""


def write_derivatives(
    predictions: Path,
    output: Path,
    *,
    dataset_json: Path | None = None,
    desc: str = "nnunet",
    console: Console | None = None,
    odd: Odd | None = None,
) -> Path:
    """Write a BIDS derivative dataset of a folder of predictions; returns its folder.

    ``sub-X[/ses-Y]/anat/sub-X[_ses-Y]_desc-<desc>_dseg.nii.gz`` with a sidecar, ``desc-<desc>_dseg.tsv`` with the names
    of labels, ``desc-<desc>_volumes.tsv`` in mm³, ``dataset_description.json``. Cases named ``sub-X_ses-Y...``, as
    `convert bids` names them, keep their entities; any other name becomes a subject of its letters and digits.

    Args:
        predictions: folder of predicted label maps, NIfTI.
        output: new or empty folder; it appears complete or not at all.
        dataset_json: names of the labels; by default that of the predictions.
        desc: letters and digits that name the model.
        console: shows a progress bar when given.
        odd: keeps the cases that cannot be measured, while some can; without it the first of them is an error.

    Raises:
        UHFError: no predictions, two cases of one subject and session, a `desc` of other characters, a damaged file.
    """
    if not _LABEL.fullmatch(desc):
        raise UHFError(f"--desc {desc!r}: BIDS takes letters and digits alone")
    named = dataset_json or description_of(predictions, DATASET_JSON)
    names = names_of_values(read_structures(read_json(named, advice="name it (-djson)"), where=named))
    files = case_files(predictions)
    places = _places(files)
    with appearing_together(output) as (folder,):
        table = folder / "volumes.csv"
        kept = Odd() if odd is None else odd
        record = measure_volumes([predictions], table, dataset_json=named, console=console, odd=odd)
        for written in (table, table.with_suffix(".json")):  # what BIDS has no place for
            written.unlink()
        for case, path in files.items():
            if case in kept.reasons:
                continue
            stem = f"{'_'.join(places[case])}_desc-{desc}_dseg"
            where = folder.joinpath(*places[case], "anat")
            where.mkdir(parents=True)
            volume = label_volume(path)
            write_labels(where / f"{stem}.nii.gz", volume.data, header=volume.header)
            _write_json(where / f"{stem}.json", {"Manual": False, "SpatialReference": "orig"})
        _write_tsv(folder / f"desc-{desc}_dseg.tsv", ("index", "name"), [(0, "background"), *sorted(names.items())])
        _write_tsv(
            folder / f"desc-{desc}_volumes.tsv",
            ("participant_id", "session_id", "structure", "volume_mm3"),
            _volume_rows(record, places),
        )
        (folder / ".bidsignore").write_text("*_volumes.tsv\n")
        (folder / "README").write_text(README, encoding="utf-8")
        _write_json(folder / "dataset_description.json", _description(desc))
    return output


def _places(cases: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """``("sub-X",)`` or ``("sub-X", "ses-Y")`` by case."""
    places: dict[str, tuple[str, ...]] = {}
    for case in cases:
        match = _ENTITIES.fullmatch(case)
        subject = match["sub"] if match else re.sub(r"[^A-Za-z0-9]", "", case)
        if not subject:
            raise UHFError(
                f"case {case!r} has no letter and no digit, so no subject of BIDS can be named by it: rename it"
            )
        place = (f"sub-{subject}", f"ses-{match['ses']}") if match and match["ses"] else (f"sub-{subject}",)
        other = next((known for known, taken in places.items() if taken == place), None)
        if other is not None:
            raise UHFError(f"cases {other} and {case} would both be {'_'.join(place)}: rename one")
        places[case] = place
    return places


def _volume_rows(record: Mapping[str, Any], places: Mapping[str, tuple[str, ...]]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for row in record["cases"]:
        subject, session = (*places[row["case"]], "n/a")[:2]
        rows += [(subject, session, name, entry["volume_mm3"]) for name, entry in row["structures"].items()]
    return rows


def _description(desc: str) -> dict[str, Any]:
    software = [("nnunet-uhf", __version__), ("nnunetv2", importlib.metadata.version("nnunetv2"))]
    return {
        "Name": f"Segmentations by {desc}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": name, "Version": version} for name, version in software],
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_tsv(path: Path, head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    lines = ["\t".join(map(str, row)) for row in (head, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
