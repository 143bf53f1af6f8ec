"""Errors a user can cause and repair, told in one line."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class UHFError(Exception):
    """Something the user can put right; ``str()`` is one line: what is wrong, in which file, what to do."""


class KeeperFileError(UHFError):
    """A keeper file is missing, damaged, or not what it says it is."""


class MatchError(UHFError):
    """A keeper does not fit the data it is asked to guide."""


def exit_on_user_error(function: Callable[P, R]) -> Callable[P, R]:
    """Let a trainer hook end nnU-Net's commands with one line and exit status 2 instead of a traceback.

    ``nnUNetv2_train`` has no error handling of its own. Only :class:`UHFError` is caught; anything else is a
    defect and keeps its traceback, which is also reachable here as the ``__cause__`` of the ``SystemExit``.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UHFError as error:
            sys.stderr.write(f"error: {error}\n")
            raise SystemExit(2) from error

    return wrapper
