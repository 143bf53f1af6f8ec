"""The linear classifier of a probe: multinomial logistic regression by scikit-learn on drawn voxels (ours)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from nnunet_uhf.types import FloatArray, Mask

PER_LABEL = 200
"""Voxels that are drawn of a label and subject, at most; of the background twice as many."""
BALANCE = 0.5
"""Exponent of a label's share in the weight of its voxels: 1 counts voxels, 0 counts labels; Dice lies between."""
ITERATIONS = 150


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
    """A fitted classifier; `converged` tells whether its optimizer came to rest within :data:`ITERATIONS`."""

    mean: FloatArray
    scale: FloatArray
    fitted: Any
    converged: bool

    @classmethod
    def fit(cls, features: FloatArray, drawn: Sequence[DrawnVoxels]) -> LinearProbe:
        """From features `(N, C)` of all drawn voxels in their order; at least two labels must be among them."""
        labels = np.concatenate([one.labels for one in drawn])
        weights = np.concatenate([one.weights for one in drawn])
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 1e-6, scale, 1.0).astype(np.float32)
        model = LogisticRegression(max_iter=ITERATIONS, tol=1e-3)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model.fit((features - mean) / scale, labels, sample_weight=weights / weights.mean())
        converged = not any(issubclass(one.category, ConvergenceWarning) for one in told)
        return cls(mean, scale, model, converged)

    def predict(self, features: FloatArray) -> NDArray[np.int32]:
        """Labels `(N,)` of features `(N, C)`."""
        return np.asarray(self.fitted.predict((features - self.mean) / self.scale), dtype=np.int32)
