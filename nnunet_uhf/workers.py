"""Cases measured or written by several processes at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from nnunet_uhf.errors import UHFError

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
            for future in as_completed([pool.submit(function, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool:
            raise UHFError("a worker was killed, most likely for want of memory: use fewer at a time (-np)") from None
        finally:
            pool.shutdown(cancel_futures=True)
