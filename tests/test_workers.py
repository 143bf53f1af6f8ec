"""Several processes at a time say and give what one would."""

from __future__ import annotations

import warnings

import pytest

from nnunet_uhf.errors import UHFWarning
from nnunet_uhf.workers import each_done


def doubled(number: int) -> int:
    warnings.warn(f"{number} is odd" if number % 2 else "even", UHFWarning, stacklevel=1)
    return 2 * number


@pytest.mark.parametrize("processes", [1, 2])
def test_warnings_of_workers_reach_the_process_that_shows_them(processes: int) -> None:
    with pytest.warns(UHFWarning, match="3 is odd"):
        assert sorted(each_done(doubled, [3, 4], processes)) == [6, 8]
