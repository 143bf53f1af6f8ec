"""Kills, full disks and second writers while files are written."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch

from faults.tally import Fault, in_child
from helpers.saving import Saving
from nnunet_uhf.imageio.output import appearing_together, written_whole
from nnunet_uhf.imageio.partial import PREFIX, sweep
from nnunet_uhf.nnunet.checkpoints import is_whole, load_checkpoint_weights

SIZE = 2_000_000


def _file(place: Path, letter: bytes) -> None:
    with written_whole(place / "image.nii.gz") as temporary, temporary.open("wb") as file:
        for _ in range(20):
            file.write(letter * (SIZE // 20))


def _folder(place: Path, letter: bytes) -> None:
    with appearing_together(place / f"out{letter.hex()}") as (staged,):
        for index in range(20):
            (staged / f"case{index}.nii.gz").write_bytes(letter * (SIZE // 20))


def _checkpoint(place: Path, letter: bytes) -> None:
    trainer = Saving(place)
    trainer.network = torch.nn.Linear(300, 300)
    torch.nn.init.constant_(trainer.network.weight, float(letter[0]))
    trainer.save_checkpoint(str(place / "checkpoint_latest.pth"))


def _is_one(place: Path, letters: bytes) -> bool:
    content = (place / "image.nii.gz").read_bytes()
    return len(content) == SIZE and any(content == bytes([letter]) * SIZE for letter in letters)


def _is_folder(place: Path, letters: bytes) -> bool:
    outs = [path for path in place.iterdir() if path.name.startswith("out")]
    return all(len(list(out.iterdir())) == 20 for out in outs)


def _is_checkpoint(place: Path, letters: bytes) -> bool:
    path = place / "checkpoint_latest.pth"
    weights = load_checkpoint_weights(path)["network_weights"]["weight"] if is_whole(path) else torch.zeros(1, 1)
    return int(weights[0, 0]) in letters and bool((weights == weights[0, 0]).all())


WAYS: dict[str, tuple[Callable[[Path, bytes], None], Callable[[Path, bytes], bool]]] = {
    "an image": (_file, _is_one),
    "a folder of images": (_folder, _is_folder),
    "a checkpoint": (_checkpoint, _is_checkpoint),
}


def kills_during_writes(root: Path, times: int, seed: int = 0) -> Iterator[Fault]:
    """SIGKILL at a random moment while a file is replaced: the old or the new one is there, whole, and no remains."""
    draw = random.Random(seed)
    for what, (write, is_sound) in WAYS.items():
        fault = Fault(f"SIGKILL while {what} is written", "the old or the new one, whole; remains swept")
        for index in range(times):
            place = root / f"{what}{index}"
            place.mkdir()
            write(place, b"a")
            child = in_child(lambda place=place, write=write: [write(place, bytes([98 + n])) for n in range(20)])
            time.sleep(draw.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            whole = is_sound(place, bytes(range(97, 98 + 20)))
            for path in place.glob(f"{PREFIX}*"):  # one that was killed before it had a lock is swept a minute later
                os.utime(path, (0, 0))
            sweep(place)
            left = [path.name for path in place.iterdir() if path.name.startswith(PREFIX)]
            fault.saw("lost" if not whole else "wrong" if left else "whole", f"{place} {left}")
        yield fault


def full_disk(root: Path, times: int) -> Iterator[Fault]:
    """A limit on the size of files, at another byte each time: one line, the old file whole, no remains."""
    for what, (write, is_sound) in WAYS.items():
        fault = Fault(f"no room for {what}", "one line, status 2, the old one whole")
        for index in range(times):
            place = root / f"full {what}{index}"
            place.mkdir()
            write(place, b"a")

            def work(place: Path = place, write: Callable[[Path, bytes], None] = write, index: int = index) -> None:
                from nnunet_uhf.errors import UHFError

                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                limit = 1 + index * 4093 % (SIZE // 20 if write is _folder else 300_000)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                try:
                    write(place, b"b")
                except UHFError as error:
                    raise SystemExit(2 if "cannot be written" in str(error) else 3) from error
                except OSError as error:  # of the block itself: the command line tells it in one line
                    raise SystemExit(2 if error.strerror else 3) from error

            status = os.waitstatus_to_exitcode(os.waitpid(in_child(work), 0)[1])
            left = [path.name for path in place.iterdir() if path.name.startswith(PREFIX)]
            if not is_sound(place, b"ab"):
                fault.saw("lost", str(place))
            elif left or status not in (0, 2):
                fault.saw("wrong" if left else "traceback", f"status {status} {left}")
            else:
                fault.saw("one line" if status == 2 else "whole")
        yield fault


def two_writers(root: Path, times: int) -> Iterator[Fault]:
    """Two processes that replace one file again and again: whoever reads it finds one of theirs, whole."""
    fault = Fault("two processes write one file", "always one of both, whole")
    place = root / "two writers"
    place.mkdir()
    _file(place, b"a")
    children = [
        in_child(lambda letter=letter: [_file(place, letter) for _ in range(10_000)]) for letter in (b"b", b"c")
    ]
    for _ in range(times):
        fault.saw("whole" if _is_one(place, b"abc") else "lost", str(place))
        time.sleep(0.005)
    for child in children:
        os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)
    yield fault
