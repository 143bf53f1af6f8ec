"""Volumes on the page of `qc` read as people write them."""

from __future__ import annotations

import pytest

from nnunet_uhf.preprocessing.qc.findings import written_ml


@pytest.mark.parametrize(
    ("millilitres", "written"),
    [
        (1652.4, "1652"),
        (100.0, "100"),
        (99.96, "100"),
        (84.31, "84.3"),
        (0.52, "0.52"),
        (0.0042, "0.004"),
        (0, "0.000"),
    ],
)
def test_no_volume_is_written_with_a_power_of_ten(millilitres: float, written: str) -> None:
    assert written_ml(millilitres) == written
