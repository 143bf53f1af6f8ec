"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import errno
import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError

FULL = 2**20
"""Bytes; with fewer left, a disk on which writing failed is full."""


@contextmanager
def written_whole(path: Path, *, one_writer: bool = False) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; it takes the place of ``path`` when the block ends well.

    Until then an older file at ``path`` stays as it is; when the block fails, nothing is left. Missing folders are
    made. The name keeps the ending of ``path``, by which some libraries choose the format. No ``mkstemp``: its files
    are readable by their owner alone. The block writes that file and does nothing else.

    Args:
        path: the file to write.
        one_writer: no other process writes this file. What a killed one left beside it is then written over: large
            files that are written every few minutes would fill the disk otherwise.

    Raises:
        UHFError: the file cannot be written (no room, no rights, a file in place of the folder).
    """
    temporary = path.with_name(f".{'partial' if one_writer else uuid.uuid4().hex}_{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except RuntimeError as error:  # what torch and ITK raise whatever the reason
            if shutil.disk_usage(path.parent).free < FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UHFError(
            f"{path} cannot be written ({error.strerror or error}): check folder, space and rights, then try again"
        ) from error


def require_new(path: Path, *, overwrite: bool) -> None:
    """UHFError when the file a user named is there already and may not be replaced."""
    if path.exists() and not overwrite:
        raise UHFError(f"{path} is there already: name another file (-o), or replace it with --overwrite")


def write_table(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file whole or not at all; the columns are the keys of the lines, which are alike.

    Raises:
        UHFError: the file cannot be written.
    """
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


#: How the names of folders begin that are not complete; a run that was killed leaves one.
PARTIAL = ".partial_"
#: What file managers and file systems put into folders by themselves.
NOBODYS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"})


def require_free(folder: Path) -> None:
    """UHFError when `folder` exists and is anything but an empty folder: nothing is ever overwritten."""
    if folder.is_symlink() and not folder.exists():
        raise UHFError(f"{folder} is a link to a folder that does not exist: make that folder, or name another one")
    if folder.exists() and (not folder.is_dir() or any(map(_counts, folder.iterdir()))):
        raise UHFError(f"{folder} exists and is not empty: name another output folder or remove it")


def _counts(path: Path) -> bool:
    return path.name not in NOBODYS and not path.name.startswith(PARTIAL)


@contextmanager
def working_folder(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output`, on its disk, for what is made on the way; UHFError where it cannot be."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise UHFError(f"{output} cannot be created: {error.strerror}") from error
    with work as folder:
        yield Path(folder)


@contextmanager
def appearing_together(*folders: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary folders that become `folders` when the block ends well and vanish when it does not.

    An empty folder that exists is filled, whatever it is: a link, a mount point, the current folder.

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
    complete = False
    try:
        staged.extend(_stage(folder) for folder in folders)
        yield tuple(staged)
        complete = True
    finally:
        for temporary in () if complete else staged:
            shutil.rmtree(temporary, ignore_errors=True)
    for temporary, folder in zip(staged, folders, strict=True):
        _appear(temporary, folder)


def _stage(folder: Path) -> Path:
    """A new folder on the disk of `folder`: in it where it exists, which may be a link or a mount point, else beside.

    Raises:
        UHFError: it cannot be made.
    """
    place = folder if folder.exists() else folder.parent
    temporary = place / f"{PARTIAL}{folder.name}_{uuid.uuid4().hex[:8]}"
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise UHFError(f"{folder} cannot be created: {error.strerror}") from error
    return temporary


def _appear(temporary: Path, folder: Path) -> None:
    """Move what was made to its place; where that fails it stays, and a UHFError says where it is."""
    try:
        if temporary.parent != folder:
            temporary.replace(folder)
            return
        for entry in sorted(temporary.iterdir()):
            entry.replace(folder / entry.name)
        temporary.rmdir()
    except OSError as error:
        raise UHFError(
            f"{folder} cannot take what was made ({error.strerror}): it lies in {temporary}, move it yourself"
        ) from error
