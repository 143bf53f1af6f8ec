"""Trainings of `run.py` side by side, each in a process of its own: one small network leaves most of a card idle."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

Work = Callable[..., None]
"""Calls a function with its arguments, here or in another process, and returns when it has ended."""


def here(function: Callable[..., None], *arguments: object) -> None:
    """In this process."""
    function(*arguments)


def end_with_parent() -> None:
    """End this process as soon as its parent has ended: a killed run leaves no training behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(other: BaseProcess) -> None:
    other.join()
    os._exit(1)


@contextmanager
def workers(number: int) -> Iterator[Work]:
    """Work in so many other processes, which keep what they have imported; one is this process itself."""
    if number == 1:
        yield here
        return
    context = multiprocessing.get_context("spawn")  # a process that has used a card must not be forked
    with ProcessPoolExecutor(number, mp_context=context, initializer=end_with_parent) as pool:

        def there(function: Callable[..., None], *arguments: object) -> None:
            pool.submit(function, *arguments).result()

        yield there
