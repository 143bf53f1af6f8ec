"""Hidden folders for what is not complete yet: locked while their maker lives, swept by the next run after it (ours).

What is under way has its final name in a folder of its own, so that no program that lists files counts it as a case.
The lock is the operating system's, which lets go of it however its owner ends; where there are no locks, nothing is
swept.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = ".partial_"
"""How the names of such folders begin."""
_LOCK = ".owner"
_NEW = ".owner.new"
_UNLOCKED_S = 60  # no folder takes as long to get its lock: its maker was killed before
#: Files that version 0.1.0 left beside their place when it was killed: it knew neither folder nor lock.
_OF_0_1_0 = re.compile(r"\.[0-9a-f]{32}_.+|\.partial_.+")
_UNTOUCHED_S = 3600  # no file took as long to write


@contextmanager
def partial_folder(place: Path) -> Iterator[Path]:
    """A new hidden folder in `place`, which is made, too; it is gone when the block ends, with what is still in it.

    Once in a process, what killed ones left in `place` is removed before.

    Raises:
        OSError: it cannot be made.
    """
    place.mkdir(parents=True, exist_ok=True)
    _sweep_once(place.resolve(), os.getpid())
    folder = place / f"{PREFIX}{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    try:
        lock = _lock_new(folder)
        try:
            yield folder
        finally:
            if lock is not None:
                lock.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove what processes that are no more left incomplete in a folder; what others work at is left alone."""
    with suppress(OSError):
        for path in list(place.iterdir()):
            with suppress(OSError):
                if path.name.startswith(PREFIX) and path.is_dir():
                    _remove_unowned(path)
                elif _OF_0_1_0.fullmatch(path.name) and path.is_file() and _untouched(path, _UNTOUCHED_S):
                    path.unlink()


@functools.lru_cache(maxsize=1024)
def _sweep_once(place: Path, _process: int) -> None:
    """Once a process: on some network disks a process cannot tell its own locks from none."""
    sweep(place)


def _lock_new(folder: Path) -> IO[str] | None:
    """Lock a folder for as long as the file that is returned is open; None where there are no locks.

    The lock has its name only when it is taken: a folder with that name and without a lock has no owner.
    """
    if fcntl is not None:
        new = folder / _NEW
        file = new.open("w", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.replace(folder / _LOCK)
        except OSError:
            file.close()
            with suppress(OSError):
                new.unlink()
        else:
            return file
    return None


def _remove_unowned(folder: Path) -> None:
    if fcntl is not None and (folder / _LOCK).is_file():
        with (folder / _LOCK).open("r+", encoding="utf-8") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    elif (
        not (folder / _LOCK).exists()
        and {path.name for path in folder.iterdir()} <= {_NEW}
        and _untouched(folder, _UNLOCKED_S)
    ):
        shutil.rmtree(folder, ignore_errors=True)


def _untouched(path: Path, seconds: float) -> bool:
    return time.time() - path.stat().st_mtime > seconds
