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
SPREAD = 16.0
"""Inverse penalty (scikit-learn's C) times the number of maps: what scores may be before anything is learnt is the same
for one map and for five hundred. Under one weak penalty for all, many maps of few subjects are learnt by heart."""
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
        converged: whether its optimizer came to rest within :data:`ITERATIONS`.
    """

    labels: NDArray[np.int32]
    weights: FloatArray
    bias: FloatArray
    converged: bool

    @classmethod
    def fit(cls, features: FloatArray, drawn: Sequence[DrawnVoxels]) -> LinearProbe:
        """From features `(N, C)` of all drawn voxels in their order; at least two labels must be among them."""
        labels = np.concatenate([one.labels for one in drawn])
        weights = np.concatenate([one.weights for one in drawn])
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 1e-6, scale, 1.0).astype(np.float32)
        model = LogisticRegression(C=SPREAD / features.shape[1], max_iter=ITERATIONS, tol=1e-3)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model.fit((features - mean) / scale, labels, sample_weight=weights / weights.mean())
        converged = not any(issubclass(one.category, ConvergenceWarning) for one in told)
        found, bias = model.coef_.T / scale[:, None], model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps the score of the second alone
            found, bias = np.hstack([0 * found, found]), np.array([0, bias[0]])
        bias = bias - mean.astype(np.float64) @ found
        return cls(model.classes_, found.astype(np.float32), bias.astype(np.float32), converged)

    def label(self, maps: PointMaps, shape: Sequence[int]) -> NDArray[np.int32]:
        """Labels of all voxels of a stored scan (X, Y, Z); background where the network saw nothing of it."""
        found = np.zeros(shape, np.int32)
        for part, scores in slab_scores(maps, torch.from_numpy(self.weights), torch.from_numpy(self.bias), shape):
            found[part] = self.labels[scores.max(dim=0).indices.numpy()]  # faster than argmax
        return found
