"""Paired statistics: scipy's on the same numbers, and answers where scipy has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nnunet_uhf.evaluation.statistics import RESAMPLES, compare_paired, holm, smallest_p

RNG = np.random.default_rng(5)
BASELINE = RNG.uniform(0.6, 0.9, 24)
MODEL = BASELINE + RNG.normal(0.01, 0.02, 24)


def test_interval_test_and_effect_sizes_are_scipys_on_the_same_numbers() -> None:
    found = compare_paired(BASELINE, MODEL, higher_is_better=True, seed=3)
    differences = MODEL - BASELINE
    interval = stats.bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert found.ci == (interval.low, interval.high)
    assert found.ci_method == "BCa"
    assert found.p == stats.wilcoxon(MODEL, BASELINE).pvalue
    assert found.difference == pytest.approx(differences.mean())
    # a paired t statistic is dz times the root of n
    assert found.dz == pytest.approx(stats.ttest_rel(MODEL, BASELINE).statistic / math.sqrt(24))
    minus, whole = stats.wilcoxon(differences, alternative="greater").statistic, 24 * 25 / 2
    assert found.rank_biserial == pytest.approx((minus - (whole - minus)) / whole)


def test_identical_scores_have_a_difference_of_exactly_zero() -> None:
    found = compare_paired(BASELINE, BASELINE, higher_is_better=True)
    assert (found.difference, found.ci, found.p, found.dz, found.rank_biserial) == (0.0, (0.0, 0.0), 1.0, 0.0, 0.0)
    assert (found.wins, found.losses, found.ties) == (0, 0, 24)


def test_a_constant_shift_is_found_although_bca_is_undefined() -> None:
    found = compare_paired(
        [0.5, 0.25, 0.75, 0.125, 0.0, 0.5], [0.625, 0.375, 0.875, 0.25, 0.125, 0.625], higher_is_better=True
    )
    assert (found.difference, found.ci, found.ci_method) == (0.125, (0.125, 0.125), "percentile")
    assert found.p == smallest_p(6) == 1 / 32
    assert found.dz is None
    assert found.rank_biserial == 1.0


def test_the_interval_covers_a_known_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        sample = rng.normal(0.3, 1.0, 40)
        low, high = compare_paired(np.zeros(40), sample, higher_is_better=True).ci or (0, 0)
        hits += low <= 0.3 <= high
    assert 88 <= hits <= 99  # 95 expected; the binomial's 99.9 % range, and bootstrap's slight optimism


def test_lower_is_better_swaps_wins_and_losses_and_nothing_else() -> None:
    up, down = (compare_paired([1, 2, 3, 4], [0, 3, 2, 4], higher_is_better=better) for better in (True, False))
    assert (up.wins, up.losses, up.ties) == (1, 2, 1)
    assert (down.wins, down.losses, down.ties) == (2, 1, 1)
    assert up.difference == down.difference == -0.25


def test_subjects_without_a_score_in_either_are_left_out() -> None:
    found = compare_paired([1.0, math.nan, 3.0, 4.0], [1.5, 2.0, math.nan, 4.5], higher_is_better=True)
    assert (found.n, found.baseline_mean, found.model_mean) == (2, 2.5, 3.0)
    none = compare_paired([math.nan], [1.0], higher_is_better=True)
    assert (none.n, none.difference, none.ci, none.p) == (0, None, None, None)


def test_one_subject_has_no_interval() -> None:
    found = compare_paired([0.5], [0.6], higher_is_better=True)
    assert (found.n, found.ci, found.ci_method, found.dz) == (1, None, None, None)


def test_holm_steps_down_and_never_falls() -> None:
    # worked out by hand: 4 * 0.005, then 3 * 0.01, 2 * 0.03, and 0.04 may not be below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([None, 0.02, None]) == [None, 0.02, None]
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
