from __future__ import annotations

import math

import pytest

from nnunet_uhf.trainers.image_to_image.logger import moving_average


def test_the_average_moves_by_a_tenth_and_an_overflow_does_not_stay_in_it() -> None:
    averages: list[float] = []
    for value in (math.nan, 20.0, 30.0, math.nan, 30.0):
        averages.append(moving_average(averages, value))
    assert math.isnan(averages[0])
    assert averages[1:] == pytest.approx([20.0, 21.0, 21.0, 21.9])
