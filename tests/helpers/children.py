"""Processes that a test forks: none outlives its test, none goes on as a second pytest."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

SECONDS = 120
"""How long a child may take; then the system ends it, whatever it waits for."""


def fork(function: Callable[[], object]) -> int:
    """Process id of a child that calls the function and ends: with status 0, or 1 where it raised."""
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    status = 1
    try:
        function()
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it must not go up into a second pytest
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(child: int) -> int:
    """The exit status of a child, negative the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
