from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.output import appearing_together, working_folder, write_table, written_whole


def test_a_file_appears_when_the_block_ends_well_and_replaces_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.nii.gz"
    for content in ("one", "two"):
        with written_whole(path) as temporary:
            assert temporary.parent.parent == path.parent
            assert temporary.parent.name.startswith(".")
            assert temporary.name == path.name
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == content
        assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_block_that_fails_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text("old")

    def interrupted() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_written_is_told_in_one_line_and_the_older_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keeper.safetensors"
    path.write_text("old")

    def disk_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(UHFError) as caught, written_whole(path) as temporary:
        temporary.write_text("new")
    assert str(caught.value).startswith(f"{path} cannot be written (No space left on device)")
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_is_told_whatever_a_library_raises_and_a_defect_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint_latest.pth"

    def fail() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("unexpected pos 704 vs 598")  # torch's words for it

    with pytest.raises(RuntimeError, match="unexpected pos"):
        fail()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(UHFError, match=r"checkpoint_latest\.pth cannot be written \(No space left on device\)"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    path = tmp_path / "out" / "notes.json"
    with pytest.raises(UHFError, match=r"notes\.json cannot be written"), written_whole(path) as temporary:
        temporary.write_text("new")


def test_a_table_has_a_line_for_its_columns_and_one_for_every_row(tmp_path: Path) -> None:
    write_table(tmp_path / "new" / "t.csv", [{"case": "a, b", "dice": 0.5}, {"case": "c", "dice": None}])
    assert (tmp_path / "new" / "t.csv").read_text().splitlines() == ["case,dice", '"a, b",0.5', "c,"]


def test_a_working_folder_lies_beside_the_output_and_goes_with_its_block(tmp_path: Path) -> None:
    output = tmp_path / "raw" / "Dataset101_Pairs"
    with working_folder(output) as folder:
        (folder / "a.txt").write_text("a")
        assert folder.parent.parent == output.parent
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_working_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file")
    with (
        pytest.raises(UHFError, match="Dataset101_Pairs cannot be created: "),
        working_folder(tmp_path / "raw" / "Dataset101_Pairs"),
    ):
        pass


@pytest.mark.parametrize("kind", ["link", "current", "empty", "absent"])
def test_an_output_folder_is_filled_whatever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    place = tmp_path / "place"
    output = Path() if kind == "current" else tmp_path / "link" if kind == "link" else place
    if kind != "absent":
        place.mkdir()
        (place / ".DS_Store").touch()
    if kind == "link":
        output.symlink_to(place)
    if kind == "current":
        monkeypatch.chdir(place)
    with appearing_together(output) as (folder,):
        (folder / "sub").mkdir()
        (folder / "sub" / "one").touch()
        (folder / "two").touch()
        assert not (place / "two").exists()
    found = {str(path.relative_to(place)) for path in place.rglob("*")} - {".DS_Store"}
    assert found == {"sub", "sub/one", "two"}
    assert output.is_symlink() == (kind == "link")


def test_results_that_cannot_be_moved_to_their_place_stay_and_are_told(tmp_path: Path) -> None:
    output = tmp_path / "out"

    def late() -> None:
        with appearing_together(output) as (folder,):
            (folder / "one").touch()
            output.mkdir()  # by somebody else, meanwhile
            (output / "theirs").touch()

    with pytest.raises(UHFError, match="cannot take what was made") as error:
        late()
    (kept,) = tmp_path.glob("out_*")
    assert str(kept) in str(error.value)
    assert (kept / "one").is_file()


def test_a_link_to_a_folder_that_is_gone_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(UHFError, match="link to a folder that does not exist"), appearing_together(tmp_path / "out"):
        pytest.fail("work was begun")


def test_folders_get_the_rights_that_the_user_s_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with appearing_together(tmp_path / "out"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o775
