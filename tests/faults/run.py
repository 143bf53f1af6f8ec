"""All faults, in a long or a short form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from faults.files import damaged_files, damaged_plans
from faults.inputs import bad_inputs
from faults.models import cut_files
from faults.tally import Fault
from faults.training import trainings
from faults.writing import full_disk, kills_during_writes, two_writers


def faults(root: Path, *, short: bool) -> Iterator[Fault]:
    """Each kind of fault, once it is counted; what is written lies under `root`.

    The long form also sees that each verb does its work on sound files.
    """
    yield from kills_during_writes(root / _made(root, "kills"), 3 if short else 40)
    yield from full_disk(root / _made(root, "full"), 3 if short else 20)
    yield from two_writers(root / _made(root, "two"), 20 if short else 200)
    yield from damaged_files(root / _made(root, "files"), 10 if short else 100)
    yield from damaged_plans(200 if short else 10_000)
    yield from bad_inputs(root / _made(root, "inputs"), every=18 if short else 1, sound=not short)
    yield from cut_files(root / _made(root, "models"), 1 if short else 5, sound=not short)
    yield from trainings(root / _made(root, "trainings"), 1 if short else 20)


def _made(root: Path, name: str) -> str:
    (root / name).mkdir()
    return name
