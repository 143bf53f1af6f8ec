"""Trainings of `run.py` side by side, each in a process of its own: one small network leaves most of a card idle."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

Work = Callable[..., None]
"""Calls a function with its arguments, here or in another process, and returns when it has ended."""


def here(function: Callable[..., None], *arguments: object) -> None:
    """In this process."""
    function(*arguments)


@contextmanager
def workers(number: int) -> Iterator[Work]:
    """Work in so many other processes, which keep what they have imported; one is this process itself."""
    if number == 1:
        yield here
        return
    context = multiprocessing.get_context("spawn")  # a process that has used a card must not be forked
    with ProcessPoolExecutor(number, mp_context=context) as pool:

        def there(function: Callable[..., None], *arguments: object) -> None:
            pool.submit(function, *arguments).result()

        yield there
