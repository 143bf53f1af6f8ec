"""The table of relaxation times: published numbers, and nothing outside the fields they hold for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.synthesis import FIELDS_T, SOURCES, t1_seconds, t2_seconds, t2_star_seconds

TISSUES = ("csf", "gm", "wm")


def test_t1_follows_the_published_power_law() -> None:
    # in tesla the law reads 0.583 B0^0.382 and 0.857 B0^0.376
    for field in (0.36, 1.5, 3.0, 7.0):
        assert t1_seconds("wm", field) == pytest.approx(0.583 * field**0.382, rel=2e-3)
        assert t1_seconds("gm", field) == pytest.approx(0.857 * field**0.376, rel=2e-3)
        assert t1_seconds("csf", field) == pytest.approx(4.329, rel=1e-4)


@pytest.mark.parametrize(("field", "measured"), [(1.5, 0.646), (3.0, 0.838), (7.0, 1.126)])
def test_white_matter_agrees_with_an_independent_measurement_within_a_tenth(field: float, measured: float) -> None:
    # MPRAGE values of Wright et al., MAGMA 21:121, 2008, which the table was not made from
    assert t1_seconds("wm", field) == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("field", "gm", "wm"), [(1.5, 0.0835, 0.080), (3.0, 0.072, 0.071), (7.0, 0.0465, 0.047), (5.0, 0.05925, 0.059)]
)
def test_t2_is_that_of_the_measured_fields_and_linear_between_them(field: float, gm: float, wm: float) -> None:
    assert t2_seconds("gm", field) == pytest.approx(gm)
    assert t2_seconds("wm", field) == pytest.approx(wm)


def test_t2_star_falls_with_the_field() -> None:
    # 0.064 exp(-0.132 * 3) and 0.090 exp(-0.142 * 7)
    assert t2_star_seconds("wm", 3.0) == pytest.approx(0.04307, rel=1e-3)
    assert t2_star_seconds("gm", 7.0) == pytest.approx(0.03331, rel=1e-3)


@pytest.mark.parametrize(
    ("function", "name", "fields"),
    [(t1_seconds, "t1", (0.064, 9.4)), (t2_star_seconds, "t2_star", (0.064, 9.4)), (t2_seconds, "t2", (0.36, 9.4))],
)
def test_fields_without_published_values_are_not_offered(
    function: Callable[[str, float], float], name: str, fields: tuple[float, ...]
) -> None:
    for tissue in TISSUES:
        assert function(tissue, FIELDS_T[name][0]) > 0
        for field in fields:
            with pytest.raises(UHFError, match=f"{field:g} T: published"):
                function(tissue, field)


def test_every_quantity_names_its_source() -> None:
    assert set(SOURCES) >= {*FIELDS_T, "proton_density"}
