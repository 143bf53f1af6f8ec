from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_uhf.imageio.output import written_whole


def test_a_file_appears_when_the_block_ends_well_and_replaces_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.nii.gz"
    for content in ("one", "two"):
        with written_whole(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.name.endswith(".nii.gz")
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
