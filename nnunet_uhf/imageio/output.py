"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import errno
import hashlib
import itertools
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.partial import PREFIX, partial_folder

FULL = 2**20
"""Bytes; where fewer can be written, a disk on which writing failed is full."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to, with the name of ``path``; it takes the place of ``path`` when the block ends well.

    Until then an older file at ``path`` stays as it is; when the block fails, nothing is left, and what a killed
    process left is swept by the next one. Missing folders are made. The block writes that file and does nothing else.

    Raises:
        UHFError: the file cannot be written (no room, no rights, a file in place of the folder).
    """
    try:
        with partial_folder(path.parent) as folder:
            temporary = folder / path.name
            try:
                yield temporary
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                temporary.replace(path)
            except RuntimeError as error:  # what torch and ITK raise whatever the reason
                refused = _refused(folder)
                if refused is not None:
                    raise refused from error
                raise
    except OSError as error:
        raise UHFError(
            f"{path} cannot be written ({error.strerror or error}): check folder, space and rights, then try again"
        ) from error


def _refused(folder: Path) -> OSError | None:
    """Why no more can be written into a folder: a full disk, a quota, a limit on sizes; None where it can."""
    if shutil.disk_usage(folder).free < FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        with (folder / "probe").open("wb") as file:
            file.write(bytes(FULL))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


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


#: What file managers and file systems put into folders by themselves.
NOBODYS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"})


def require_free(folder: Path) -> None:
    """UHFError when `folder` exists and is anything but an empty folder: nothing is ever overwritten."""
    if folder.is_symlink() and not folder.exists():
        raise UHFError(f"{folder} is a link to a folder that does not exist: make that folder, or name another one")
    if folder.exists() and (not folder.is_dir() or is_used(folder)):
        raise UHFError(f"{folder} exists and is not empty: name another output folder or remove it")


def is_used(folder: Path) -> bool:
    """Whether a folder holds anything but what file managers, or runs that were killed, left there."""
    return any(path.name not in NOBODYS and not path.name.startswith(PREFIX) for path in folder.iterdir())


@contextmanager
def working_folder(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output`, on its disk, for what is made on the way; UHFError where it cannot be."""
    with _staged(output, output.parent) as folder:
        yield folder


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
    with ExitStack() as stack:
        # on the disk of each: in a folder that exists, which may be a link or a mount point, else beside it
        inside = [folder.exists() for folder in folders]
        staged = tuple(
            stack.enter_context(_staged(folder, folder if within else folder.parent))
            for folder, within in zip(folders, inside, strict=True)
        )
        yield staged
        for made, folder, within in zip(staged, folders, inside, strict=True):
            _appear(made, folder, within=within)


@contextmanager
def _staged(folder: Path, place: Path) -> Iterator[Path]:
    """A new folder, hidden in `place`, in which `folder` is made; UHFError where it cannot be."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(partial_folder(place)) / "made"
            made.mkdir()
        except OSError as error:
            raise UHFError(f"{folder} cannot be created: {error.strerror}") from error
        yield made


def _appear(made: Path, folder: Path, *, within: bool) -> None:
    """Move what was made to its place; where that fails it is kept, and a UHFError says where."""
    try:
        if not within:
            made.replace(folder)
            return
        for entry in sorted(made.iterdir()):
            entry.replace(folder / entry.name)
    except OSError as error:
        kept = made.parent.parent / f"{folder.resolve().name}_{uuid.uuid4().hex[:8]}"
        made.replace(kept)
        raise UHFError(
            f"{folder} cannot take what was made ({error.strerror}): it lies in {kept}, move it yourself"
        ) from error


def file_sha256(path: Path) -> str:
    """Of the whole file, as sha256sum prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
