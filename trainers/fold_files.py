"""The files of one fold as its trainings come and go: nothing of an earlier one is taken for the present one (ours)."""

from __future__ import annotations

from pathlib import Path

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.checkpoints import is_whole
from nnunet_uhf.nnunet.model_folder import CHECKPOINT, CHECKPOINTS, LATEST, FoldFolder

KEEPER_FILE = "keeper.safetensors"
"""What `nnunet-uhf pretrain` makes of a finished fold where no other place is named."""
EARLIER = "earlier"


def put_away(fold: FoldFolder) -> Path | None:
    """Move what an earlier training left (checkpoints, validation, keeper file) into a folder beside it.

    Returns:
        That folder, `earlier_1` or the next free number; None where nothing was there.
    """
    places = [*(fold.path / name for name in CHECKPOINTS), fold.validation, fold.path / KEEPER_FILE]
    found = [path for path in places if path.exists()]
    if not any(path.name in CHECKPOINTS for path in found):
        return None
    return _moved(found, fold)


def _moved(paths: list[Path], fold: FoldFolder) -> Path:
    number = 1
    while (fold.path / f"{EARLIER}_{number}").exists():
        number += 1
    folder = fold.path / f"{EARLIER}_{number}"
    folder.mkdir()
    for path in paths:
        path.replace(folder / path.name)
    return folder


def to_continue(first: Path, *, may_move: bool = True) -> tuple[Path, list[str]]:
    """The checkpoint with which a training goes on: the one that nnU-Net names, or a better one beside it.

    A final checkpoint that is older than the latest one is of an earlier training, which version 0.1.0 left in place
    when the fold was begun anew: it is put away. A damaged checkpoint gives way to the newest one that is whole.

    Args:
        first: what nnU-Net names.
        may_move: whether to put away; one process of several does.

    Returns:
        The checkpoint, and lines for the log.

    Raises:
        UHFError: none is whole.
    """
    fold, notes = FoldFolder(first.parent), []
    latest = fold.path / LATEST
    if first == fold.checkpoint and fold.begun_anew and is_whole(latest):
        if may_move:
            stale = [path for path in (first, fold.validation, fold.path / KEEPER_FILE) if path.exists()]
            folder = _moved(stale, fold)
            notes.append(f"{CHECKPOINT} is older than {LATEST}: it is of an earlier training, and kept in {folder}")
        first = latest
    others = [fold.path / name for name in CHECKPOINTS if fold.path / name != first]
    for path in (first, *sorted(filter(Path.is_file, others), key=_written, reverse=True)):
        if is_whole(path):
            return path, notes
        notes.append(f"WARNING: {path} is damaged; the newest whole checkpoint is taken in its place")
    raise UHFError(
        f"{first} is damaged, and there is no whole checkpoint beside it; delete it, then train the fold anew"
    )


def _written(path: Path) -> float:
    return path.stat().st_mtime_ns
