"""One training of a fold at a time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.trainers.fold_lock import lock_fold


def child_that_trains(folder: Path) -> int:
    """Process id of another process, once it has locked the folder."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        lock_fold(folder)
        os.write(writer, b"locked")
        time.sleep(300)
        os._exit(0)
    os.read(reader, 6)
    return child


def test_a_second_training_is_told_who_trains_and_a_killed_one_is_in_nobodys_way(tmp_path: Path) -> None:
    child = child_that_trains(tmp_path)
    try:
        with pytest.raises(UHFError, match=f"is being trained already.*process {child} on ") as caught:
            lock_fold(tmp_path)
        assert "\n" not in str(caught.value)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert lock_fold(tmp_path)


def test_a_process_may_train_a_fold_again_and_still_keeps_others_out(tmp_path: Path) -> None:
    assert lock_fold(tmp_path)
    assert lock_fold(tmp_path)
    child = os.fork()
    if child == 0:
        from nnunet_uhf.trainers import fold_lock

        fold_lock._HELD.clear()
        try:
            lock_fold(tmp_path)
        except UHFError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_folder_made_anew_is_locked_anew(tmp_path: Path) -> None:
    assert lock_fold(tmp_path)
    (tmp_path / ".training_lock").unlink()
    assert lock_fold(tmp_path)
    assert (tmp_path / ".training_lock").read_text().startswith(f"process {os.getpid()} on ")
