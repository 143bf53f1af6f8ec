"""What a BIDS name says, and which sidecar files speak for an image (the inheritance principle).

Source: Brain Imaging Data Structure specification (https://bids-specification.readthedocs.io), common principles:
file names are ``key-value`` entities, a suffix and an ending; a JSON or TSV file holds for every data file of its
suffix below its folder whose entities include its own, and the nearer file wins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import is_nifti

#: Spaces in which a file lies on its own scan, beside none and the name of the scan's contrast.
OWN_SPACES = ("orig", "individual")


@dataclass(frozen=True)
class BidsFile:
    """One file: its entities (`sub`, `ses`, `run`, ...) and its suffix (`T1w`, `dseg`, ...)."""

    path: Path
    entities: dict[str, str]
    suffix: str

    @property
    def case(self) -> str:
        """``sub-X``, or ``sub-X_ses-Y``."""
        session = self.entities.get("ses")
        return f"sub-{self.entities['sub']}" + ("" if session is None else f"_ses-{session}")

    def fits(self, wanted: Mapping[str, str], *, own_spaces: Iterable[str]) -> bool:
        """Whether the name holds the wanted entities, and lacks those that are wanted empty.

        Where no `space` is wanted, files of another space than `own_spaces` or none do not fit: they lie elsewhere.
        """
        if "space" not in wanted and self.entities.get("space", "") not in ("", *own_spaces):
            return False
        return all(self.entities.get(key, "") == value for key, value in wanted.items())


def parse_name(path: Path) -> BidsFile:
    """Entities and suffix of a name; parts that are no entity are ignored."""
    *parts, suffix = path.name.split(".", 1)[0].split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    return BidsFile(path, entities, suffix)


def subject_images(root: Path, suffixes: tuple[str, ...]) -> Iterator[BidsFile]:
    """NIfTI files of the given suffixes in ``sub-*/anat`` and ``sub-*/ses-*/anat``, sorted.

    Raises:
        UHFError: a name that does not say whose it is, or says another subject or session than its folder.
    """
    for subject in sorted(root.glob("sub-*")):
        for folder in (subject / "anat", *sorted(subject.glob("ses-*/anat"))):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                file = parse_name(path)
                if not is_nifti(path) or path.name.startswith(".") or file.suffix not in suffixes:
                    continue
                session = None if folder.parent == subject else folder.parent.name.removeprefix("ses-")
                told = (file.entities.get("sub"), file.entities.get("ses"))
                if told != (subject.name.removeprefix("sub-"), session):
                    raise UHFError(f"{path} names another subject or session than its folder: rename or move it")
                yield file


def inherited(file: BidsFile, *, root: Path, ending: str) -> list[Path]:
    """Sidecar files that hold for `file`, from the dataset's root down to the file's folder, nearest last.

    Raises:
        UHFError: two files in one folder hold for the image, which BIDS forbids.
    """
    folder = file.path.parent
    folders = [folder]
    while folder != root and root in folder.parents:
        folder = folder.parent
        folders.append(folder)
    found = []
    for folder in reversed(folders):
        matching = [path for path in sorted(folder.glob(f"*{ending}")) if _holds_for(path, file)]
        if len(matching) > 1:
            raise UHFError(f"{matching[0]} and {matching[1].name} both describe {file.path.name}: keep one of them")
        found += matching
    return found


def sidecar(file: BidsFile, *, root: Path) -> dict[str, Any]:
    """Metadata of an image, nearer files over farther ones.

    Raises:
        UHFError: a JSON file that is damaged or holds no object.
    """
    merged: dict[str, Any] = {}
    for path in inherited(file, root=root, ending=".json"):
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise UHFError(f"{path} cannot be read as JSON: repair it") from error
        if not isinstance(content, dict):
            raise UHFError(f"{path} holds no JSON object: repair it")
        merged.update(content)
    return merged


def field_strength(file: BidsFile, *, root: Path) -> float | None:
    """`MagneticFieldStrength` in tesla from the sidecars, None where they do not say.

    Raises:
        UHFError: no number, or one that cannot be tesla.
    """
    value = sidecar(file, root=root).get("MagneticFieldStrength")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 25:
        source = inherited(file, root=root, ending=".json")[-1]
        raise UHFError(f"{source}: MagneticFieldStrength of {file.path.name} is {value!r}: give it in tesla")
    return float(value)


def _holds_for(path: Path, file: BidsFile) -> bool:
    """Whether a sidecar's suffix and entities fit the image's."""
    if path.name.startswith("."):
        return False
    told = parse_name(path)
    return told.suffix == file.suffix and told.entities.items() <= file.entities.items()
