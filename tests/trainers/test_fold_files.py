"""What is in the folder of a fold, and what of it a training goes on with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.model_folder import BEST, CHECKPOINT, LATEST, FoldFolder
from nnunet_uhf.trainers.fold_files import put_away, to_continue


def write(path: Path, age: int) -> Path:
    """A file as torch writes it, so many seconds old."""
    torch.save({"network_weights": torch.arange(1000.0)}, path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_an_earlier_training_is_moved_aside_whole_and_never_over_another(tmp_path: Path) -> None:
    fold = FoldFolder(tmp_path)
    assert put_away(fold) is None
    for number in (1, 2):
        write(fold.checkpoint, 0)
        fold.validation.mkdir()
        fold.summary.write_text(str(number))
        assert put_away(fold) == tmp_path / f"earlier_{number}"
    assert [(tmp_path / f"earlier_{n}/validation/summary.json").read_text() for n in (1, 2)] == ["1", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier_1", "earlier_2"]


def test_a_validation_without_a_checkpoint_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "validation").mkdir()
    assert put_away(FoldFolder(tmp_path)) is None


def test_a_final_checkpoint_older_than_the_latest_is_kept_aside_and_not_continued(tmp_path: Path) -> None:
    final, latest = write(tmp_path / CHECKPOINT, age=100), write(tmp_path / LATEST, age=10)
    found, notes = to_continue(final)
    assert found == latest
    assert len(notes) == 1
    assert "earlier training" in notes[0]
    assert (tmp_path / "earlier_1" / CHECKPOINT).is_file()
    assert not final.exists()


def test_a_final_checkpoint_newer_than_the_latest_is_continued(tmp_path: Path) -> None:
    final = write(tmp_path / CHECKPOINT, age=5)
    write(tmp_path / LATEST, age=10)
    assert to_continue(final) == (final, [])


@pytest.mark.parametrize("damage", ["cut short", "one bit", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_newest_whole_one(damage: str, tmp_path: Path) -> None:
    latest, best = write(tmp_path / LATEST, age=0), write(tmp_path / BEST, age=10)
    content = bytearray(latest.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    latest.write_bytes(content if damage == "one bit" else content[:700] if damage == "cut short" else b"")
    found, notes = to_continue(latest)
    assert found == best
    assert notes == [f"WARNING: {latest} is damaged; the newest whole checkpoint is taken in its place"]
    best.write_bytes(b"")
    with pytest.raises(UHFError, match="no whole checkpoint beside it; delete it"):
        to_continue(latest)
