"""One training of a fold at a time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from helpers.children import ended, fork
from nnunet_uhf.errors import UHFError
from nnunet_uhf.trainers import fold_lock
from nnunet_uhf.trainers.fold_lock import lock_fold


def child_that_trains(folder: Path) -> int:
    """Process id of another process, once it has locked the folder."""
    reader, writer = os.pipe()

    def train() -> None:
        lock_fold(folder)
        os.write(writer, b"locked")
        time.sleep(60)

    child = fork(train)
    os.close(writer)  # the child's is the last: a child that ends early ends the wait
    assert os.read(reader, 6) == b"locked"
    os.close(reader)
    return child


def test_a_second_training_is_told_who_trains_and_a_killed_one_is_in_nobodys_way(tmp_path: Path) -> None:
    child = child_that_trains(tmp_path)
    try:
        with pytest.raises(UHFError, match=f"is being trained already.*process {child} on ") as caught:
            lock_fold(tmp_path)
        assert "\n" not in str(caught.value)
    finally:
        os.kill(child, signal.SIGKILL)
        ended(child)
    assert lock_fold(tmp_path)


def test_a_process_may_train_a_fold_again_and_still_keeps_others_out(tmp_path: Path) -> None:
    assert lock_fold(tmp_path)
    assert lock_fold(tmp_path)

    def train() -> None:
        fold_lock._HELD.clear()
        with pytest.raises(UHFError):
            lock_fold(tmp_path)

    assert ended(fork(train)) == 0


def test_a_folder_made_anew_is_locked_anew(tmp_path: Path) -> None:
    assert lock_fold(tmp_path)
    (tmp_path / ".training_lock").unlink()
    assert lock_fold(tmp_path)
    assert (tmp_path / ".training_lock").read_text().startswith(f"process {os.getpid()} on ")
