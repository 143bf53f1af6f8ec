"""Cases measured or written by several processes at a time."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

from nnunet_uhf.errors import UHFError, UHFWarning

Job = TypeVar("Job")
Done = TypeVar("Done")


def each_done(function: Callable[[Job], Done], jobs: Sequence[Job], processes: int) -> Iterator[Done]:
    """Yield what the function returns for each job, as they are done; in this process where one is enough.

    Args:
        function: one that a new process can import, or a `functools.partial` of such a one.
        jobs: what it is called with, each by itself.
        processes: at most so many at a time.

    Raises:
        UHFError: a process was killed.
    """
    workers = min(processes, len(jobs))
    if workers <= 1:
        yield from map(function, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(partial(_with_warnings, function), job) for job in jobs]):
                done, told = future.result()
                for message in told:
                    warnings.warn(message, UHFWarning, stacklevel=2)
                yield done
        except BrokenProcessPool:
            raise UHFError("a worker was killed, most likely for want of memory: use fewer at a time (-np)") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _with_warnings(function: Callable[[Job], Done], job: Job) -> tuple[Done, list[str]]:
    """What the function returns, and our own warnings, for the process that can show them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UHFWarning)
        done = function(job)
    for other in caught:
        if not issubclass(other.category, UHFWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return done, [str(each.message) for each in caught if issubclass(each.category, UHFWarning)]
