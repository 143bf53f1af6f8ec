"""Paired statistics of two models on the same subjects, and Holm's correction over many of them.

Interval and test are scipy's (:func:`scipy.stats.bootstrap`, :func:`scipy.stats.wilcoxon`); the cases in which these
give NaN, above all that of no difference at all, are answered here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
Values = NDArray[np.float64]


@dataclass(frozen=True)
class PairedResult:
    """What the differences (model - baseline) of n subjects say. None stands for undefined.

    Attributes:
        n: subjects on which both models have the score.
        baseline_mean: mean of the baseline's scores over these subjects.
        model_mean: mean of the model's.
        difference: mean difference.
        ci: bounds of its bootstrap interval; None below two subjects.
        ci_method: "BCa", or "percentile" where BCa is not defined (as when all differences are alike).
        p: two-sided, of the Wilcoxon signed-rank test; 1 when no subject differs, None without subjects.
        dz: Cohen's d of paired samples, mean / standard deviation of the differences.
        rank_biserial: matched-pairs rank-biserial correlation, -1 to 1; 0 when no subject differs.
        wins: subjects on which the model is better, whatever "better" is for the metric.
        losses: subjects on which it is worse.
        ties: subjects without a difference.
    """

    n: int
    baseline_mean: float | None
    model_mean: float | None
    difference: float | None
    ci: tuple[float, float] | None
    ci_method: str | None
    p: float | None
    dz: float | None
    rank_biserial: float | None
    wins: int
    losses: int
    ties: int


def compare_paired(
    baseline: Sequence[float], model: Sequence[float], *, higher_is_better: bool, seed: int = 0
) -> PairedResult:
    """Compare two models' scores of the same subjects, in the same order.

    Subjects on which either score is NaN are left out.

    Raises:
        ValueError: sequences of different lengths.
    """
    first, second = np.asarray(baseline, float), np.asarray(model, float)
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} scores cannot be paired with {second.shape}")
    both = ~(np.isnan(first) | np.isnan(second))
    first, second = first[both], second[both]
    differences: Values = second - first
    if not len(differences):
        return PairedResult(0, None, None, None, None, None, None, None, None, 0, 0, 0)
    ci, method = bootstrap_interval(differences, seed=seed)
    gains = differences if higher_is_better else -differences
    return PairedResult(
        n=len(differences),
        baseline_mean=float(first.mean()),
        model_mean=float(second.mean()),
        difference=float(differences.mean()),
        ci=ci,
        ci_method=method,
        p=wilcoxon_p(differences),
        dz=cohen_dz(differences),
        rank_biserial=rank_biserial(differences),
        wins=int((gains > 0).sum()),
        losses=int((gains < 0).sum()),
        ties=int((gains == 0).sum()),
    )


def bootstrap_interval(
    values: Values, *, seed: int, methods: Sequence[str] = ("BCa", "percentile"), resamples: int = RESAMPLES
) -> tuple[tuple[float, float] | None, str | None]:
    """95 % bootstrap interval of the mean over subjects, and the method that gave it.

    Args:
        values: one a subject.
        seed: of the resamples, >= 0.
        methods: scipy's names; the first one that is defined is taken. BCa: Efron (1987).
        resamples: how many.

    Returns:
        None and None below two subjects, with a value that is not finite, or where no method is defined.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None, None
    for method in methods:
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            interval = stats.bootstrap(
                (values,),
                np.mean,
                n_resamples=resamples,
                confidence_level=CONFIDENCE,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        low, high = float(interval.low), float(interval.high)
        if math.isfinite(low) and math.isfinite(high):
            return (low, high), method
    return None, None


def wilcoxon_p(differences: Values) -> float:
    """Two-sided p of the Wilcoxon signed-rank test; exactly 1 where no subject differs."""
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def cohen_dz(differences: Values) -> float | None:
    """Mean over standard deviation (n - 1) of the differences; 0 without any difference, None where undefined."""
    if not differences.any():
        return 0.0
    if len(differences) < 2 or np.ptp(differences) == 0:
        return None
    return float(differences.mean() / differences.std(ddof=1))


def rank_biserial(differences: Values) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): (W+ - W-) / (W+ + W-), zero differences left out."""
    kept = differences[differences != 0]
    if not len(kept):
        return 0.0
    ranks = stats.rankdata(np.abs(kept))
    return float((ranks * np.sign(kept)).sum() / ranks.sum())


def smallest_p(n: int) -> float:
    """The smallest two-sided p that the exact signed-rank test can give for n subjects that differ."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down adjusted p of a family of tests; None, which is no test, stays None."""
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = highest
    return adjusted
