"""Whether low-field scans were measured or simulated: what a dataset, its keepers and their images say (ours)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib

from nnunet_uhf.checks import is_plain
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_name
from nnunet_uhf.imageio.opening import UNREADABLE
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.preprocessing.low_field.folder import RECORD_NAME, SIMULATED

StoredRoute = Literal["paired", "simulated"]


@dataclass(frozen=True)
class PairProvenance:
    """How the low-field scans of pairs came about.

    Attributes:
        route: `paired`, measured at both field strengths, or `simulated`.
        simulation: preset, parameters and seed of `simulation.json`; None for measured scans, or where there is none.
    """

    route: StoredRoute
    simulation: dict[str, Any] | None = None


def provenance(scans: Iterable[Path], *, stated: StoredRoute | None, field_T: float) -> PairProvenance:
    """What `simulation.json` beside the low-field scans, or their headers, say of them.

    Args:
        scans: the low-field scans of a dataset.
        stated: the user's word; None to go by the files.
        field_T: field strength in tesla that the low-field scans are said to have.

    Raises:
        UHFError: some are simulated and others not; the user, or the field strength, says otherwise than the files; a
            damaged `simulation.json`.
    """
    records: dict[Path, dict[str, Any] | None] = {}
    simulated: dict[Path, bool] = {}
    for scan in scans:
        folder = scan.parent
        if folder not in records:
            records[folder] = _record(folder / RECORD_NAME)
        record = records[folder]
        simulated[scan] = (record is not None and case_name(scan) in record["cases"]) or _says_so(scan)
    if any(simulated.values()) and not all(simulated.values()):
        first, other = (next(scan for scan, made in simulated.items() if made is kind) for kind in (True, False))
        raise UHFError(f"{first} is simulated and {other} is not: make a dataset of each")
    found: StoredRoute = "simulated" if any(simulated.values()) else "paired"
    if found == "simulated" and stated == "paired":
        raise UHFError(
            f"{next(iter(simulated))} is a simulated low-field image, --route paired says otherwise: leave it out"
        )
    used = [record for record in records.values() if record is not None] if found == "simulated" else []
    descriptions = [{name: value for name, value in record.items() if name != "cases"} for record in used]
    if any(description != descriptions[0] for description in descriptions):
        raise UHFError(f"{' and '.join(map(str, records))} were simulated in different ways: make a dataset of each")
    simulation = descriptions[0] if descriptions else None
    simulated_T = simulation["preset"].get("field_tesla") if simulation else None
    if simulated_T is not None and simulated_T != field_T:
        raise UHFError(
            f"--field-lf is {field_T:g}, but {next(iter(records)) / RECORD_NAME} says that the scans were simulated "
            f"for {simulated_T:g} T: give that"
        )
    return PairProvenance(stated or found, simulation)


def _record(path: Path) -> dict[str, Any] | None:
    """A folder's record of its simulation; None where there is none."""
    if not path.is_file():
        return None
    record = read_json(path, advice=f"simulate again, or take {path.name} away and state --route simulated")
    fits = isinstance(record.get("cases"), dict) and isinstance(record.get("preset"), dict)
    described = {name: value for name, value in record.items() if name != "cases"}
    if not fits or not is_plain(described, 4):
        raise UHFError(f"{path} is no record of a simulation: simulate again")
    return record


def _says_so(scan: Path) -> bool:
    """Whether the header's description calls an image simulated."""
    try:
        description = bytes(nib.load(scan).header["descrip"])
    except UNREADABLE:  # told by whom reads the image
        return False
    return description.startswith(SIMULATED.encode())
