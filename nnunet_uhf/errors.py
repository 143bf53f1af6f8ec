"""Errors a user can cause and repair, told in one line."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

SHOWN_REASONS = 5  # of cases that were left out; of more, the names

P = ParamSpec("P")
R = TypeVar("R")


class UHFError(Exception):
    """Something the user can put right; ``str()`` is one line: what is wrong, in which file, what to do.

    Examples:
        >>> from nnunet_uhf import UHFError, read_header
        >>> try:
        ...     read_header("nowhere.safetensors")
        ... except UHFError as error:
        ...     print(error)
        nowhere.safetensors does not exist. Give the path of a keeper file (see nnUNet_UHF_KKN).
    """


class LeftOutError(UHFError):
    """Some cases could not be done while the others were; commands end with status 1."""


class Odd:
    """Cases that could not be done; the others go on.

    Attributes:
        reasons: by name of the case, why not.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, UHFError] = {}

    @contextmanager
    def kept(self, case: str) -> Iterator[None]:
        """Keep a :class:`UHFError` that the block raises as the reason of a case."""
        try:
            yield
        except UHFError as error:
            self.reasons[case] = error

    def require_others(self, cases: int) -> None:
        """Raise the first reason when none of so many cases is left."""
        if self.reasons and len(self.reasons) >= cases:
            raise next(iter(self.reasons.values()))

    def tell(self) -> None:
        """:class:`LeftOutError` that names the cases when there are any, once the others are done."""
        if self.reasons:
            count = f"{len(self.reasons)} case was" if len(self.reasons) == 1 else f"{len(self.reasons)} cases were"
            names = list(self.reasons)
            told = "; ".join(str(self.reasons[name]) for name in names[:SHOWN_REASONS])
            rest = f"; likewise {', '.join(names[SHOWN_REASONS:])}" if names[SHOWN_REASONS:] else ""
            raise LeftOutError(f"{count} left out, the others are done: {told}{rest}")


class UHFWarning(UserWarning):
    """Something the user should know though the work goes on; one line like :class:`UHFError`'s."""


@contextmanager
def already_told() -> Iterator[None]:
    """No warning of ours in the block: it reads copies of files that were read, and told of, before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UHFWarning)
        yield


class KeeperFileError(UHFError):
    """A keeper file is missing, damaged, or not what it says it is.

    Examples:
        >>> from pathlib import Path
        >>> from nnunet_uhf import read_header
        >>> size = Path("keeper.safetensors").write_text("no weights")
        >>> read_header("keeper.safetensors")
        Traceback (most recent call last):
        nnunet_uhf.errors.KeeperFileError: keeper.safetensors is not a safetensors file, or cut short. ...
    """

    problem: str = ""
    """What is wrong with its header, without the file and the advice; empty where it is something else."""


class MatchError(UHFError):
    """A keeper does not fit the data it is asked to guide.

    Examples:
        >>> import numpy as np
        >>> from nnunet_uhf import feature_maps, write_untrained_keeper
        >>> keeper = write_untrained_keeper("keeper.safetensors", dim=2, spacing_mm=1.0)
        >>> feature_maps(np.eye(32), keeper, spacing_mm=(2.0, 2.0))
        Traceback (most recent call last):
        nnunet_uhf.errors.MatchError: the array has a spacing of (2.0, 2.0) mm, the keeper (1.0, 1.0) mm: ...
    """


def first_line(error: BaseException, *, kind: bool = True, longest: int = 150) -> str:
    """What an error of another library says, in one line of at most so many characters.

    Args:
        error: the error; torch, for one, explains itself over many lines.
        kind: begin with the name of its class; without a word of its own it always is that name.
        longest: how long what it says may be.
    """
    shown = (str(error).strip().splitlines() or [""])[0][:longest].strip()
    text = "".join(letter if letter.isprintable() else "?" for letter in shown)  # it may quote a stranger's file
    name = type(error).__name__
    return (f"{name}: {text}" if kind else text) if text else name


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
