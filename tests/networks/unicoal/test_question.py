from __future__ import annotations

import math

import pytest
import torch

from nnunet_uhf.networks.unicoal.question import NUMBERS, encoded, interpolation_weights, numbers_of


def test_numbers_become_features_as_the_specification_has_them() -> None:
    (features,) = encoded(torch.tensor([[0.25]]))
    sines = [math.sin(k * math.pi / 8) for k in (1, 2, 3, 4)]
    cosines = [math.cos(k * math.pi / 8) for k in (1, 2, 3, 4)]
    torch.testing.assert_close(features, torch.tensor([-0.5, *sines, *cosines]))


def test_numbers_stay_within_their_range_whatever_the_scan() -> None:
    numbers = numbers_of(
        delta=0.5, distance_mm=100, thickness_mm=0.01, spacing_mm=1, source_tesla=0.064, target_tesla=7
    )
    assert len(numbers) == NUMBERS
    assert numbers[:4] == [0.5, 1, 0, 3 / 8]
    assert 0 < numbers[4] < numbers[5] < 1


def test_weights_interpolate_a_cubic_and_leave_slices_at_their_places() -> None:
    assert interpolation_weights(0, [True] * 4) == [0, 1, 0, 0]
    assert interpolation_weights(1, [True] * 4) == pytest.approx([0, 0, 1, 0])
    parabola = [1.0, 0.0, 1.0, 4.0]  # x² at -1 .. 2
    weights = interpolation_weights(0.3, [True] * 4)
    assert sum(w * value for w, value in zip(weights, parabola, strict=True)) == pytest.approx(0.09)


@pytest.mark.parametrize(
    "present",
    [(False, True, True, True), (True, True, True, False), (True, True, False, False), (False, False, True, True)],
)
def test_missing_slices_have_no_weight_and_the_others_all_of_it(present: tuple[bool, ...]) -> None:
    weights = interpolation_weights(0.4, present)
    assert sum(weights) == pytest.approx(1)
    assert all(weight == 0 for weight, there in zip(weights, present, strict=True) if not there)


def test_a_place_without_slices_is_refused() -> None:
    with pytest.raises(ValueError, match="no slice"):
        interpolation_weights(0.5, [True, False, False, True])
