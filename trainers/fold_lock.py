"""One training of a fold at a time (ours): two would write over each other's checkpoints.

The lock is the operating system's, which lets go of it when its owner ends, however it ends.
"""

from __future__ import annotations

import atexit
import os
import platform
import time
from pathlib import Path
from typing import TextIO

from nnunet_uhf.errors import UHFError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".training_lock"
_HELD: dict[Path, TextIO] = {}
"""Open for as long as this process lives: closing any handle of such a file would give the lock back."""


def lock_fold(folder: Path) -> bool:
    """Keep every other process from training in a folder until this one ends.

    Record locks belong to the process: its data loaders do not hold them, and it may train the fold twice in a row.

    Returns:
        Whether it is locked now; False where the file system has no locks.

    Raises:
        UHFError: another process trains there.
    """
    path = folder.resolve() / LOCK
    held = _HELD.get(path)
    if fcntl is None or (held is not None and path.exists() and os.path.samestat(os.fstat(held.fileno()), path.stat())):
        return fcntl is not None
    if held is not None:  # of a folder that is gone
        held.close()
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        owner = file.read(500).strip() or "another process"
        file.close()
        raise UHFError(
            f"{folder}: this fold is being trained already ({owner}); wait for that training, or end it first"
        ) from None
    except OSError:
        file.close()
        return False
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M')}\n")
    file.flush()
    _HELD[path] = file
    atexit.register(file.close)
    return True
