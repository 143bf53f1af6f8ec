"""The five levels of teacher and keeper."""

from __future__ import annotations

import pytest

from nnunet_uhf.networks.blocks import cumulative
from nnunet_uhf.networks.distillation.levels import checked_strides, level_strides


def test_isotropic_levels_halve_every_axis() -> None:
    assert level_strides(3) == ((1, 1, 1), *[(2, 2, 2)] * 4)
    assert cumulative(level_strides(2))[-1] == (16, 16)


def test_an_axis_coarser_than_twice_the_finest_waits() -> None:
    steps = level_strides(3, spacing=(5.0, 1.0, 1.0))
    assert steps == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))


def test_an_axis_of_exactly_twice_the_finest_is_halved() -> None:
    assert level_strides(2, spacing=(0.2, 0.1))[1] == (2, 2)


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, -1.0)])
def test_a_spacing_that_is_none_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="2 positive values"):
        level_strides(2, spacing=spacing)


@pytest.mark.parametrize("strides", [[[1, 1]] * 4, [[2, 2]] * 5, [[1, 1], [3, 3], *[[2, 2]] * 3], [[1]] * 5])
def test_strides_that_no_level_can_have_are_refused(strides: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"strides must be|first level keeps"):
        checked_strides(2, strides)
