"""Files of a folder tree by the case that their names tell."""

from __future__ import annotations

import re
from pathlib import Path

from nnunet_uhf.errors import UHFError


def require_folder(folder: Path) -> None:
    """UHFError unless `folder` is one."""
    if not folder.is_dir():
        raise UHFError(f"{folder} is not a folder: name the folder that holds the source dataset")


def files_by_case(folder: Path, pattern: re.Pattern[str]) -> dict[str, Path]:
    """Files anywhere below a folder whose names match, by the first group of the pattern, sorted; hidden ones are not.

    Raises:
        UHFError: no such folder, or two files for one case.
    """
    require_folder(folder)
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        match = pattern.fullmatch(path.name)
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if match is None or hidden or path.is_dir():  # a link that leads nowhere is told when it is opened
            continue
        case = match[1]
        if case in found:
            raise UHFError(f"{path} and {found[case]} are both case {case}: remove or move one")
        found[case] = path
    return found
