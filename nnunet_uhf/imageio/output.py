"""Files that appear whole or not at all."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_uhf.errors import UHFError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; it takes the place of ``path`` when the block ends well.

    Until then an older file at ``path`` stays as it is; when the block fails, nothing is left. Missing folders are
    made. The name keeps the ending of ``path``, by which some libraries choose the format. No ``mkstemp``: its files
    are readable by their owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}_{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def require_free(folder: Path) -> None:
    """UHFError when `folder` exists and is anything but an empty folder: nothing is ever overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UHFError(f"{folder} exists and is not empty: name another output folder or remove it")


@contextmanager
def appearing_together(*folders: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary folders that become `folders` when the block ends well and vanish when it does not.

    Raises:
        UHFError: one of `folders` is in use, lies in another one, or cannot be created.
    """
    for folder in folders:
        require_free(folder)
    places = [folder.resolve() for folder in folders]
    for place, other in itertools.permutations(places, 2):
        if place == other or place in other.parents:
            raise UHFError(f"{other} lies in the other output folder {place}: name two folders side by side")
    staged: list[Path] = []
    try:
        for folder in folders:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                staged.append(Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)))
            except OSError as error:
                raise UHFError(f"{folder} cannot be created: {error.strerror}") from error
            staged[-1].chmod(0o755)  # mkdtemp makes folders nobody else may read
        yield tuple(staged)
        for temporary, folder in zip(staged, folders, strict=True):
            if folder.exists():
                folder.rmdir()  # empty, see require_free
            temporary.replace(folder)
    finally:
        for temporary in staged:
            shutil.rmtree(temporary, ignore_errors=True)
