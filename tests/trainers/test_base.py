from __future__ import annotations

import errno
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.children import ended, fork
from helpers.saving import Saving
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights


class Exploding:
    def __reduce__(self) -> Any:
        return os.mkdir, ("should_not_exist",)


def _write_half_then(end: Any) -> Any:
    def save(content: Any, filename: str) -> None:
        Path(filename).write_bytes(b"half a checkpoint")
        end()

    return save


def test_a_checkpoint_is_read_back_with_its_numpy_scalars_and_settings(tmp_path: Path) -> None:
    trainer = Saving(tmp_path)
    path = tmp_path / "checkpoint_final.pth"
    trainer.save_checkpoint(str(path))
    content = load_checkpoint_weights(path)
    assert torch.equal(content["network_weights"]["weight"], trainer.network.weight)
    assert content["logging"]["train_losses"] == [0.375]
    assert content["_best_ema"] == 0.5
    assert content["trainer_name"] == "Saving"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_kill_during_the_write_leaves_the_old_checkpoint_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Saving(tmp_path)
    path = tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", _write_half_then(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert ended(fork(lambda: trainer.save_checkpoint(str(path)))) == -signal.SIGKILL
    assert path.read_bytes() == before
    monkeypatch.undo()
    trainer.current_epoch = 7
    assert ended(fork(lambda: trainer.save_checkpoint(str(path)))) == 0  # the next run sweeps what the killed one left
    assert load_checkpoint_weights(path)["current_epoch"] == 8
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_write_removes_what_it_had_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Saving(tmp_path)

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", _write_half_then(interrupt))
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_written_by_other_ranks_or_with_checkpoints_disabled(tmp_path: Path) -> None:
    trainer = Saving(tmp_path)
    trainer.local_rank = 1
    trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    trainer.local_rank, trainer.disable_checkpointing = 0, True
    trainer.print_to_log_file = lambda *_, **__: None
    trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert list(tmp_path.iterdir()) == []


def test_a_continued_training_knows_the_best_epoch_of_the_log(tmp_path: Path) -> None:
    """nnU-Net saves the latest checkpoint of an epoch before it holds that epoch against the best."""
    trainer = Saving(tmp_path)
    trainer._best_ema = 0.2
    trainer.logger.log("mean_fg_dice", 0.2, 0)
    trainer.logger.log("mean_fg_dice", 0.9, 1)
    trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    again = Saving(tmp_path)
    again.load_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert again._best_ema == pytest.approx(0.27)


@pytest.mark.parametrize(
    "kind", ["missing", "truncated", "other", "weights alone", "pickle", "object in a checkpoint", "empty"]
)
def test_what_is_no_checkpoint_is_refused_in_one_line_and_runs_no_code(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint_final.pth"
    if kind == "truncated":
        Saving(tmp_path).save_checkpoint(str(path))
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "other":
        torch.save({"weights": torch.ones(2)}, path)
    elif kind == "weights alone":
        torch.save({"network_weights": {"weight": torch.ones(2)}}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Exploding()))
    elif kind == "object in a checkpoint":
        torch.save({"network_weights": {}, "surprise": Exploding()}, path)
    elif kind == "empty":
        path.touch()
    with pytest.raises(UHFError) as caught:
        load_checkpoint_weights(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert not (tmp_path / "should_not_exist").exists()


def test_a_full_disk_ends_the_training_in_one_line_and_the_old_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, path = Saving(tmp_path), tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    before = path.read_bytes()

    def disk_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(SystemExit) as left:
        trainer.save_checkpoint(str(path))
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {path} cannot be written (No space left on device)")
    assert path.read_bytes() == before
