from __future__ import annotations

import numpy as np
import pytest

from nnunet_uhf.networks.unicoal.question import interpolation_weights
from nnunet_uhf.networks.unicoal.slice_filter import slice_filter
from nnunet_uhf.preprocessing.low_field.slice_profile import profile_weights

ALL = [True] * 4
RATIO, GAP = 4, 0.25
LENGTHS = {"distance_mm": 8.0, "thickness_mm": 8 * (1 - GAP), "spacing_mm": 2.0}


def slices_and_truth(delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Four thick slices of a random line at each of many places, and the voxel `delta` behind the second of them."""
    line = np.cumsum(np.random.default_rng(0).normal(size=20_000))
    (profile,) = profile_weights(41, [20.0], thickness=RATIO * (1 - GAP))
    seen = np.convolve(line, profile, mode="same")
    places = np.arange(100, len(line) - 100)
    columns = np.stack([seen[places + (index - 1) * RATIO] for index in range(4)], axis=1)
    return columns, line[places + round(delta * RATIO)]


@pytest.mark.parametrize("delta", [0.0, 0.25, 0.5])
def test_thick_slices_are_sharpened_beyond_their_spline_and_nearly_as_by_a_fit_with_the_truth(delta: float) -> None:
    slices, truth = slices_and_truth(delta)
    fitted, *_ = np.linalg.lstsq(slices, truth, rcond=None)
    filtered, spline, best = (
        float(np.mean((slices @ np.array(weights) - truth) ** 2))
        for weights in (slice_filter(delta, ALL, **LENGTHS), interpolation_weights(delta, ALL), fitted)
    )
    assert filtered < 0.98 * spline
    assert filtered < 1.02 * best


@pytest.mark.parametrize("present", [ALL, [False, True, True, True], [True, True, False, False]])
def test_weights_add_up_and_a_missing_slice_has_none(present: list[bool]) -> None:
    weights = slice_filter(0.3, present, **LENGTHS)
    assert sum(weights) == pytest.approx(1)
    assert [weight != 0 for weight in weights] == present


def test_both_directions_are_alike() -> None:
    assert slice_filter(0.3, ALL, **LENGTHS) == pytest.approx(slice_filter(0.7, ALL, **LENGTHS)[::-1])


def test_thin_slices_stay_where_they_are() -> None:
    weights = slice_filter(0.0, ALL, distance_mm=8, thickness_mm=0.01, spacing_mm=2)
    assert weights == pytest.approx([0, 1, 0, 0], abs=0.01)


def test_slices_as_near_as_those_of_the_target_are_interpolated() -> None:
    near = slice_filter(0.3, ALL, distance_mm=2, thickness_mm=2, spacing_mm=2)
    assert near == interpolation_weights(0.3, ALL)


def test_a_place_without_slices_is_refused() -> None:
    with pytest.raises(ValueError, match="no slice"):
        slice_filter(0.5, [True, False, False, True], **LENGTHS)
