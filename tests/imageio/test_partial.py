"""What killed processes left: no case of anybody's, and swept by the next run, which spares what others work at."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.children import ended, fork
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.output import appearing_together, is_used, working_folder, written_whole
from nnunet_uhf.imageio.partial import partial_folder, sweep

Way = Callable[[Callable[[], None]], None]


def in_the_midst(write: Way) -> int:
    """Process id of a child that is in the midst of a block of ours."""
    reader, writer = os.pipe()

    def wait() -> None:
        os.write(writer, b"there")
        time.sleep(300)

    child = fork(lambda: write(wait))
    os.close(writer)
    assert os.read(reader, 5) == b"there"
    os.close(reader)
    return child


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    ended(child)


def writes_file(folder: Path) -> Way:
    def write(wait: Callable[[], None]) -> None:
        with written_whole(folder / "case_0000.nii.gz") as temporary:
            temporary.write_text("half")
            wait()

    return write


def writes_folder(folder: Path) -> Way:
    def write(wait: Callable[[], None]) -> None:
        with appearing_together(folder / "out") as (staged,):
            (staged / "case_0000.nii.gz").write_text("half")
            wait()

    return write


def works_beside(folder: Path) -> Way:
    def write(wait: Callable[[], None]) -> None:
        with working_folder(folder / "out") as made:
            (made / "case_0000.nii.gz").write_text("half")
            wait()

    return write


@pytest.mark.parametrize("way", [writes_file, writes_folder, works_beside])
def test_what_a_killed_process_left_is_no_case_and_is_swept_by_the_next_run(
    tmp_path: Path, way: Callable[[Path], Way]
) -> None:
    kill(in_the_midst(way(tmp_path)))
    assert list(tmp_path.rglob("case_0000.nii.gz"))
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == []
    assert not is_used(tmp_path)
    with written_whole(tmp_path / "other.nii.gz") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["other.nii.gz"]
    assert list(case_files(tmp_path)) == ["other"]


@pytest.mark.parametrize("way", [writes_file, writes_folder, works_beside])
def test_what_a_living_process_works_at_is_left_alone(tmp_path: Path, way: Callable[[Path], Way]) -> None:
    child = in_the_midst(way(tmp_path))
    try:
        sweep(tmp_path)
        assert list(tmp_path.rglob("case_0000.nii.gz"))
    finally:
        kill(child)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_does_not_sweep_its_own_work(tmp_path: Path) -> None:
    with partial_folder(tmp_path) as folder:
        sweep(tmp_path)
        assert folder.is_dir()
        with written_whole(tmp_path / "a.txt") as temporary:
            temporary.touch()
        assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_only_what_is_ours_is_swept(tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in (".partial_mine", ".cache", ".hidden.nii.gz", f".{'0' * 31}_case.nii.gz")]
    theirs[0].mkdir()
    (theirs[0] / "kept.txt").touch()
    os.utime(theirs[0], (0, 0))
    for path in theirs[1:]:
        path.touch()
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert all(path.exists() for path in theirs)


def test_files_that_version_0_1_0_left_are_swept_once_nobody_can_be_writing_them(tmp_path: Path) -> None:
    old, new = tmp_path / f".{'a1' * 16}_case.nii.gz", tmp_path / f".{'b2' * 16}_case.nii.gz"
    checkpoint = tmp_path / ".partial_checkpoint_latest.pth"
    for path in (old, new, checkpoint):
        path.touch()
    for path in (old, checkpoint):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_where_there_are_no_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(in_the_midst(writes_file(tmp_path)))

    def no_locks(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    sweep(tmp_path)
    with partial_folder(tmp_path) as mine:
        sweep(tmp_path)
        assert mine.is_dir()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("files", [(), (".owner.new",)])
def test_a_folder_whose_maker_was_killed_before_it_was_locked_is_swept_a_minute_later(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    folder = tmp_path / ".partial_0123456789ab"
    folder.mkdir()
    for name in files:
        (folder / name).touch()
    sweep(tmp_path)
    assert folder.is_dir()
    os.utime(folder, (0, 0))
    sweep(tmp_path)
    assert not folder.exists()
