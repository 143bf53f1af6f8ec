"""What was tried, how often, and what came of it."""

from __future__ import annotations

import contextlib
import io
import os
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

GOOD = ("whole", "one line", "right", "swept")
#: Nothing of these may happen, ever.
BAD = ("lost", "traceback", "wrong")


@dataclass
class Fault:
    """One row of the table: a kind of fault, and the outcomes by name with how often each was seen."""

    what: str
    expected: str
    outcomes: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def saw(self, outcome: str, note: str = "") -> None:
        """Count an outcome; of a bad one keep what there is to say."""
        if outcome not in GOOD + BAD:
            raise ValueError(outcome)
        self.outcomes[outcome] += 1
        if outcome in BAD:
            self.notes.append(f"{self.what}: {outcome}: {note}")

    @property
    def tried(self) -> int:
        return sum(self.outcomes.values())

    @property
    def bad(self) -> int:
        return sum(self.outcomes[name] for name in BAD)


def of_command(arguments: Sequence[str], *, produced: Callable[[], bool]) -> tuple[str, str]:
    """Run a verb on a bad input, and name the outcome: one line and no output, a traceback, or a wrong result."""
    from nnunet_uhf.cli import main

    errors, screen = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(screen), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main(list(arguments))
    except SystemExit as end:
        lines = [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]
        if end.code in (1, 2) and (len(lines) == 1 or (end.code == 1 and not produced())):
            return "one line", lines[0] if lines else screen.getvalue()[-200:]
        return ("wrong", f"status {end.code}, {lines} {errors.getvalue()[-200:]}")
    except BaseException:  # noqa: BLE001 - that is what is counted
        return "traceback", traceback.format_exc()[-600:]
    return "wrong", "no exit status"


def in_child(work: Callable[[], None]) -> int:
    """Process id of a child that does the work and ends with status 0, or with that of a SystemExit, or 99."""
    child = os.fork()
    if child:
        return child
    status = 0
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        work()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - counted by the parent
        status = 99
    os._exit(status)
