"""Distances of sets of slices, against other implementations of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from nnunet_uhf.evaluation.distributions import (
    frechet_distance,
    inception_score,
    kernel_distance,
    ms_ssim_diversity,
)
from nnunet_uhf.evaluation.feature_network import Described
from nnunet_uhf.evaluation.image_sets import FLOOR, CaseSlices, set_metrics, unit_slices

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.standard_normal((60, 8)).astype(np.float32) @ RANDOM.standard_normal((8, 8)).astype(np.float32)


@pytest.mark.parametrize("others", [40, 5])
def test_the_frechet_distance_is_that_of_two_normal_distributions(others: int) -> None:
    made = (FEATURES[:others] * 1.3 + 0.4).astype(np.float64)
    real = FEATURES.astype(np.float64)
    covariances = [np.cov(part, rowvar=False) for part in (real, made)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((real.mean(0) - made.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(FEATURES, made.astype(np.float32)) == pytest.approx(expected, rel=1e-3)


def test_a_set_is_at_no_distance_from_itself_and_farther_the_more_noise_there_is() -> None:
    assert frechet_distance(FEATURES, FEATURES) == pytest.approx(0, abs=1e-3)
    wide = RANDOM.standard_normal((20, 300)).astype(np.float32)
    assert frechet_distance(wide, wide) == pytest.approx(0, abs=1e-3)
    real, made = RANDOM.standard_normal((2, 300, 8)).astype(np.float32)
    for distance in (frechet_distance, kernel_distance):
        found = [distance(real, made + shift) for shift in (0.0, 0.5, 1.0, 2.0)]
        assert found == sorted(found)
        assert abs(found[0]) < 0.3 * found[1]


def test_the_kernel_distance_is_the_unbiased_discrepancy_of_all_pairs() -> None:
    one, two = FEATURES[:7].astype(np.float64), FEATURES[20:25].astype(np.float64) + 1

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 8 + 1) ** 3)

    def mean(left: np.ndarray, right: np.ndarray, *, same: bool) -> float:
        values = [kernel(x, y) for i, x in enumerate(left) for j, y in enumerate(right) if not same or i != j]
        return float(np.mean(values))

    expected = mean(one, one, same=True) + mean(two, two, same=True) - 2 * mean(one, two, same=False)
    assert kernel_distance(one.astype(np.float32), two.astype(np.float32)) == pytest.approx(expected, rel=1e-4)


def test_the_inception_score_counts_classes_that_are_told_apart() -> None:
    assert inception_score(60 * np.eye(5, dtype=np.float32)) == pytest.approx(5)
    assert inception_score(np.zeros((4, 5), np.float32)) == pytest.approx(1)


def test_diversity_is_of_pairs_of_one_set_and_one_where_all_are_alike() -> None:
    images = RANDOM.random((6, 24, 24)).astype(np.float32)
    assert ms_ssim_diversity([images[0]] * 5, pairs=3) == pytest.approx(1)
    assert ms_ssim_diversity(list(images), pairs=10) < 0.5


def test_slices_go_from_black_to_white_between_the_scores_and_are_black_outside_the_mask() -> None:
    volume = np.full((3, 20, 30), -9.0, np.float32)
    volume[1, 4:8, 10:20] = np.linspace(-2, 4, 10)
    mask = np.zeros(volume.shape, bool)
    mask[1, 4:8, 10:20] = True
    mask[2, 4, 10] = True  # too little to be counted
    (found,) = unit_slices(volume, mask, (-1, 3))
    assert found.shape == (10, 10)
    line = found[found.any(axis=1)][0]
    assert (line.min(), line.max()) == (0, 1)
    assert (255 * line).round().astype(np.uint8).tolist() == (
        np.clip((np.linspace(-2, 4, 10) + 1) / 4, 0, 1) * 255
    ).round().astype(int).tolist()
    (larger,) = unit_slices(volume, mask, (-1, 3), side=40)
    assert larger.shape == (40, 40)
    assert larger.sum() == pytest.approx(found.sum())


def test_sets_are_held_against_the_real_one_beside_its_two_halves() -> None:
    def cases(shift: float) -> list[CaseSlices]:
        parts = np.split(FEATURES, 4)
        images = RANDOM.random((15, 16, 16)).astype(np.float32)
        return [CaseSlices(images, Described(part + np.float32(shift), None)) for part in parts]

    measured = set_metrics({"real": cases(0), "near": cases(0.5), "far": cases(5)}, real="real", network="net")
    assert set(measured["real"]) == {"ms_ssim_diversity"}
    assert set(measured["near"]) == {"ms_ssim_diversity", "fd_net", "kid_net"}
    assert measured["near"]["fd_net"] < measured["far"]["fd_net"]
    assert set(measured[FLOOR]) == {"fd_net", "kid_net"}
    plain = [CaseSlices(one.slices, None) for one in cases(0)]
    assert set_metrics({"real": plain, "made": plain}, real="real", network=None).keys() == {"real", "made"}
