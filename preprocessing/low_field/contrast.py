"""How bright white and grey matter stand above the noise at low field, from scan to scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError

# 95 % quantile of the chi-square distribution with two degrees of freedom: d^2 inside the 95 % ellipse
ELLIPSE_95 = 5.991


@dataclass(frozen=True, kw_only=True)
class SNRDistribution:
    """Bivariate normal distribution of (SNR_WM, SNR_GM) over scans.

    Attributes:
        mean: (WM, GM), both > 0.
        covariance: rows (WM, GM), symmetric, no negative eigenvalue; zeros give a fixed pair.

    Raises:
        UHFError: a mean that is not positive, or something that is not a covariance matrix.

    Source: SIQT, stochastic low-field simulator.
    """

    mean: tuple[float, float]
    covariance: tuple[tuple[float, float], tuple[float, float]]

    def __post_init__(self) -> None:
        if np.shape(self.mean) != (2,) or np.shape(self.covariance) != (2, 2):
            raise UHFError("an SNR distribution is a mean of two numbers (WM, GM) and a 2x2 covariance")
        if not np.isfinite([*self.mean, *self.covariance[0], *self.covariance[1]]).all() or min(self.mean) <= 0:
            raise UHFError(f"the mean SNR (WM, GM) is {self.mean}: give two positive numbers")
        covariance = np.asarray(self.covariance)
        if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance).min() < -1e-9:
            raise UHFError(f"{self.covariance} is no covariance matrix: it must be symmetric, positive semidefinite")

    def draw(
        self, rng: np.random.Generator, *, size: int = 1, reject_outliers: bool = False
    ) -> npt.NDArray[np.float64]:
        """Draw `size` pairs, shape (size, 2), columns (SNR_WM, SNR_GM), all > 0.

        Args:
            rng: source of randomness.
            size: number of pairs, >= 1.
            reject_outliers: draw again what falls outside the 95 % ellipse (ours). It keeps the mean and shrinks
                the covariance to 0.842 of its size.

        A pair that is not positive has no meaning and is drawn again; with the presets this is a six-sigma event.
        """
        values, vectors = np.linalg.eigh(np.asarray(self.covariance, dtype=np.float64))
        root = vectors * np.sqrt(values.clip(min=0))
        pairs = np.empty((size, 2))
        todo = np.arange(size)
        while todo.size:
            normal = rng.standard_normal((todo.size, 2))
            pairs[todo] = np.asarray(self.mean) + normal @ root.T
            bad = (pairs[todo] <= 0).any(axis=1)
            if reject_outliers:  # the Mahalanobis distance is the length of the standard normal draw
                bad |= (normal**2).sum(axis=1) > ELLIPSE_95
            todo = todo[bad]
        return pairs
