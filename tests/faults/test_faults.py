"""The short form of `python tests/faults`: nothing is lost, no traceback, no silent wrong result."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.run import faults
from faults.tally import GOOD, Fault


@pytest.mark.slow
def test_faults_lose_nothing_and_are_told_in_one_line(tmp_path: Path) -> None:
    found = list(faults(tmp_path, short=True))
    assert [note for fault in found for note in fault.notes] == []
    assert all(fault.tried == sum(fault.outcomes[name] for name in GOOD) > 0 for fault in found)
    assert sum(fault.tried for fault in found) >= 300


def test_a_bad_outcome_is_counted_and_kept() -> None:
    fault = Fault("a kill", "whole")
    fault.saw("whole")
    fault.saw("lost", "of case 3")
    assert (fault.tried, fault.bad, fault.notes) == (2, 1, ["a kill: lost: of case 3"])
    with pytest.raises(ValueError, match="fine"):
        fault.saw("fine")
