"""The keepers that come with the package, by name: ``builtin`` is all of them, ``builtin/NAME`` is one (ours)."""

from __future__ import annotations

from pathlib import Path

from nnunet_uhf import __version__
from nnunet_uhf.errors import KeeperFileError

BUILTIN = "builtin"
"""What stands in the place of a path."""
FOLDER = Path(__file__).parent / BUILTIN
SUFFIX = ".safetensors"


def is_builtin(place: str | Path) -> bool:
    """Whether a place is meant that is inside the package; a folder of the user's of that name is ``./builtin``."""
    return str(place) == BUILTIN or str(place).startswith(f"{BUILTIN}/")


def builtin_keepers() -> list[Path]:
    """The files, by name; none where this version carries none."""
    return sorted(FOLDER.glob(f"*{SUFFIX}"))


def builtin_files(place: str | Path) -> list[Path]:
    """The files that ``builtin`` or ``builtin/NAME`` means.

    Raises:
        KeeperFileError: this version carries no keeper, or none of that name.
    """
    files = builtin_keepers()
    if not files:
        raise KeeperFileError(
            f"nnunet-uhf {__version__} carries no keeper: train one with `nnunet-uhf pretrain`, or name a file"
        )
    name = str(place).partition("/")[2]
    found = [path for path in files if not name or path.stem == name]
    if not found:
        raise KeeperFileError(f"{place}: there is no such keeper; choose among {', '.join(map(builtin_name, files))}")
    return found


def keeper_path(place: str | Path) -> Path:
    """The one file that a place means; of ``builtin`` alone the first by name, any other path is itself.

    Raises:
        KeeperFileError: as :func:`builtin_files`.
    """
    return builtin_files(place)[0] if is_builtin(place) else Path(place)


def builtin_name(path: Path) -> str:
    """How a file of the package is asked for."""
    return f"{BUILTIN}/{path.stem}"
