"""The linear classifier of a probe: multinomial logistic regression by scikit-learn on drawn voxels (ours)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from nnunet_uhf.evaluation.probe.points import PointMaps
from nnunet_uhf.evaluation.probe.scores import slab_scores
from nnunet_uhf.types import FloatArray, Mask

PER_LABEL = 200
"""Voxels that are drawn of a label and subject, at most; of the background twice as many."""
BALANCE = 0.5
"""Exponent of a label's share in the weight of its voxels: 1 counts voxels, 0 counts labels; Dice lies between."""
STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse penalties (scikit-learn's C), one of which is chosen on labelled subjects: maps are many, subjects few."""
UNCHOSEN = 0.1
"""Of a single labelled subject, which cannot be left out."""
ITERATIONS = 1000


@dataclass(frozen=True)
class DrawnVoxels:
    """Voxels drawn of one labelled subject: places in the flattened label map, their labels and weights."""

    index: NDArray[np.int64]
    labels: NDArray[np.int32]
    weights: NDArray[np.float64]


def draw_voxels(labels: NDArray[np.int32], allowed: Mask, rng: np.random.Generator) -> DrawnVoxels:
    """At most :data:`PER_LABEL` voxels of every label among the allowed ones; both arrays are flat, `(N,)`."""
    index: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float64]] = []
    for value in np.unique(labels[allowed]):
        places = np.flatnonzero(allowed & (labels == value))
        count = min(len(places), PER_LABEL * (2 if value == 0 else 1))
        index.append(rng.choice(places, count, replace=False))
        weights.append(np.full(count, len(places) ** BALANCE / count))
    chosen = np.concatenate(index)
    return DrawnVoxels(chosen, labels[chosen], np.concatenate(weights))


@dataclass(frozen=True)
class LinearProbe:
    """A fitted classifier: the label of the largest score, `features @ weights + bias`.

    Attributes:
        labels: `(K,)`.
        weights: `(C, K)`, of maps as they are.
        bias: `(K,)`.
        strength: its inverse penalty, of :data:`STRENGTHS`.
        converged: whether its optimizer came to rest within :data:`ITERATIONS`.
    """

    labels: NDArray[np.int32]
    weights: FloatArray
    bias: FloatArray
    strength: float
    converged: bool

    @classmethod
    def fit(cls, features: Sequence[FloatArray], drawn: Sequence[DrawnVoxels], strength: float) -> LinearProbe:
        """From features `(N, C)` of the drawn voxels of every subject; at least two labels must be among them."""
        mean, scale = _spread(features)
        model, converged = _fitted(features, drawn, strength)
        found, bias = model.coef_.T / scale[:, None], model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps the score of the second alone
            found, bias = np.hstack([0 * found, found]), np.array([0, bias[0]])
        bias = bias - mean.astype(np.float64) @ found
        return cls(model.classes_, found.astype(np.float32), bias.astype(np.float32), strength, converged)

    def label(self, maps: PointMaps, shape: Sequence[int]) -> NDArray[np.int32]:
        """Labels of all voxels of a stored scan (X, Y, Z); background where the network saw nothing of it."""
        found = np.zeros(shape, np.int32)
        for part, scores in slab_scores(maps, torch.from_numpy(self.weights), torch.from_numpy(self.bias), shape):
            found[part] = self.labels[scores.max(dim=0).indices.numpy()]  # faster than argmax
        return found


def chosen_strength(kinds: Sequence[tuple[Sequence[FloatArray], Sequence[DrawnVoxels]]]) -> float:
    """One inverse penalty for several kinds of maps: features and drawn voxels of the same subjects.

    That with which classifiers of one half of the subjects label the other half best, and back: by the mean Dice of
    structures, of drawn voxels by their weights, over all kinds. Of equals the stronger penalty is taken.
    """
    if any(len(drawn) < 2 for _, drawn in kinds):
        return UNCHOSEN
    return max(STRENGTHS, key=lambda strength: sum(_held_out_dice(*kind, strength) for kind in kinds))


def _held_out_dice(features: Sequence[FloatArray], drawn: Sequence[DrawnVoxels], strength: float) -> float:
    found = 0.0
    for half in (0, 1):
        learnt, tested = slice(half, None, 2), slice(1 - half, None, 2)
        mean, scale = _spread(features[learnt])
        model, _ = _fitted(features[learnt], drawn[learnt], strength)
        labels, weights = _told(drawn[tested])
        told = model.predict((np.concatenate(features[tested]) - mean) / scale)
        found += _mean_dice(labels, told, weights) / 2
    return found


def _mean_dice(labels: NDArray[np.int32], told: NDArray[np.int32], weights: NDArray[np.float64]) -> float:
    """Mean Dice, 0 to 1, of all labels but the background."""
    found = []
    for value in np.unique(labels[labels != 0]):
        true, named = labels == value, told == value
        found.append(2 * weights[true & named].sum() / (weights[true].sum() + weights[named].sum()))
    return float(np.mean(found))


def _spread(features: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of every map; 1 where it is constant."""
    together = np.concatenate(features)
    mean, scale = together.mean(axis=0), together.std(axis=0)
    return mean, np.where(scale > 1e-6, scale, 1.0).astype(np.float32)


def _told(drawn: Sequence[DrawnVoxels]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Labels and weights of all drawn voxels."""
    return np.concatenate([one.labels for one in drawn]), np.concatenate([one.weights for one in drawn])


def _fitted(
    features: Sequence[FloatArray], drawn: Sequence[DrawnVoxels], strength: float
) -> tuple[LogisticRegression, bool]:
    """A classifier of standardised maps, and whether it came to rest."""
    mean, scale = _spread(features)
    labels, weights = _told(drawn)
    model = LogisticRegression(C=strength, max_iter=ITERATIONS, tol=1e-3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit((np.concatenate(features) - mean) / scale, labels, sample_weight=weights / weights.mean())
    return model, not any(issubclass(one.category, ConvergenceWarning) for one in told)
