from __future__ import annotations

import numpy as np
import pytest

from nnunet_uhf.imageio.stripped import is_skull_stripped
from nnunet_uhf.preprocessing.pairing.alignment import (
    Alignment,
    flag_outliers,
    measure_alignment,
    normalised_mutual_information,
    outline_distance,
)
from nnunet_uhf.preprocessing.pairing.foreground import foreground
from nnunet_uhf.preprocessing.pairing.registration import Motion

STILL = Motion(0.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def ball(shift: int = 0) -> np.ndarray:
    x, y, z = np.ogrid[-16:16, -16:16, -16:16]
    return (x - shift) ** 2 + y**2 + z**2 < 100


def fit(**changes: object) -> Alignment:
    values = {"outline_mm": 1.0, "outline_p95_mm": 2.0, "nmi_before": 1.1, "nmi_after": 1.2, "covered": 1.0}
    values |= {"rotation_deg": 1.0, "shift_mm": 1.0, "stretch": 1.0}
    return Alignment(**{**values, **changes})  # type: ignore[arg-type]


def test_outlines_are_measured_in_mm_along_each_axis() -> None:
    reach = np.ones((32, 32, 32), bool)
    assert outline_distance(ball(), ball(), reach=reach, spacing=(1, 1, 1)) == (0.0, 0.0)
    fine = outline_distance(ball(), ball(2), reach=reach, spacing=(1, 1, 1))
    coarse = outline_distance(ball(), ball(2), reach=reach, spacing=(3, 3, 3))
    assert 0.5 < fine[0] < fine[1] <= 2
    np.testing.assert_allclose(coarse, 3 * np.array(fine))


def test_the_end_of_the_field_of_view_is_no_outline() -> None:
    reach = np.ones((32, 32, 32), bool)
    reach[..., :12] = False
    assert outline_distance(ball(), ball() & reach, reach=reach, spacing=(1, 1, 1)) == (0.0, 0.0)


def test_mutual_information_sees_a_changed_contrast_and_not_a_shift() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 5, (24, 24, 24)).astype(np.float32)
    other = np.array([3.0, 0.0, 1.0, 9.0, 2.0], np.float32)[image.astype(int)]
    assert normalised_mutual_information(image, other) == pytest.approx(2)
    assert normalised_mutual_information(image, np.roll(other, 3, axis=0)) < 1.02


def test_a_bad_pair_is_named_with_its_reasons_and_a_good_one_is_not() -> None:
    rng = np.random.default_rng(0)
    head = (ball() * (50 + rng.normal(0, 5, (32, 32, 32)))).astype(np.float32)
    reach = np.ones(head.shape, bool)
    good = measure_alignment(head, head, np.roll(head, 5, 0), reach=reach, spacing=(1, 1, 1), motions=[STILL])
    assert good.reasons == []
    turned = Motion(40.0, (0.0, 3.0, 4.0), (1.3, 1.0, 0.9))
    bad = measure_alignment(
        head, np.roll(head, 5, 0), head, reach=reach & ball(4), spacing=(2, 2, 2), motions=[STILL, turned]
    )
    assert bad.shift_mm == 5
    reasons = "; ".join(bad.reasons)
    for reason in ("mm apart", "less mutual information", "turned by 40", "stretched by 1.30", "is covered"):
        assert reason in reasons


def test_what_interpolation_takes_of_a_pair_that_fitted_is_no_reason_to_flag_it() -> None:
    rng = np.random.default_rng(0)
    head = (ball() * (50 + rng.normal(0, 5, (32, 32, 32)))).astype(np.float32)
    other = (head + rng.normal(0, 2, head.shape)).astype(np.float32)
    resampled = (other + rng.normal(0, 0.3, head.shape)).astype(np.float32)
    reach = np.ones(head.shape, bool)
    found = measure_alignment(head, resampled, other, reach=reach, spacing=(1, 1, 1), motions=[STILL])
    assert 0 < found.nmi_before - found.nmi_after < 0.002
    assert found.reasons == []


def test_the_grid_beyond_a_small_field_of_view_is_not_taken_for_stripped_background() -> None:
    rng = np.random.default_rng(1)
    head = (ball() * 50.0 + np.abs(rng.normal(0, 2, (32, 32, 32)))).astype(np.float32)
    reach = np.zeros(head.shape, bool)
    reach[4:-4, 4:-4, 4:-4] = True
    moved = np.where(reach, head, np.float32(0))
    found = measure_alignment(head, moved, moved, reach=reach, spacing=(1, 1, 1), motions=[STILL])
    assert found.outline_mm < 0.5


def test_only_what_stands_apart_from_the_others_is_an_outlier() -> None:
    pairs = {str(k): fit(outline_mm=1 + 0.02 * k, nmi_after=1.2 - 0.001 * k) for k in range(6)}
    flag_outliers(pairs)
    assert all(not pair.reasons for pair in pairs.values())
    pairs["far"] = fit(outline_mm=2.5)
    pairs["unlike"] = fit(nmi_after=1.05)
    flag_outliers(pairs)
    assert [case for case, pair in pairs.items() if pair.reasons] == ["far", "unlike"]


def test_four_pairs_are_too_few_to_tell_an_outlier() -> None:
    pairs = {"a": fit(), "b": fit(), "c": fit(), "d": fit(outline_mm=2.9)}
    flag_outliers(pairs)
    assert all(not pair.reasons for pair in pairs.values())


def test_foreground_is_the_head_with_its_dark_inside_and_without_the_noise_around() -> None:
    rng = np.random.default_rng(0)
    brain = ball()
    head = np.where(brain, 60.0, 0.0) + rng.rayleigh(4, brain.shape)
    head[10:14, 10:14, 10:14] = 2  # a ventricle
    head[14:18, 14:18, 24:26] = 400  # fat
    found = foreground(head.astype(np.float32))
    assert not is_skull_stripped(head)
    assert (found & brain).sum() > 0.95 * brain.sum()
    assert (found & ~brain).sum() < 0.02 * brain.sum()
