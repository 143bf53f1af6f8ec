"""What is asked of Uni-COAL beside its slices: which image, at which place between which slices (E1 to E3: ours)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SLICES = 4  # of a source: one before, two around, one behind
WAVES = 4  # per number
FEATURES = 1 + 2 * WAVES
NUMBERS = 6
"""Place between two slices, their distance, their thickness, spacing of the target, field of sources and of target."""
_MM = (-3.0, 5.0)  # log2 of an eighth of a millimetre, and of 32
_TESLA = (-5.0, 4.0)  # log2 of 0.03 T and of 16 T


class Question(NamedTuple):
    """A question to the network for every sample of a batch.

    Attributes:
        condition: code and numbers, `(B, code + numbers)`.
        noise: z, `(B, noise)`.
        place: of the middle of the slice in the plane, `(B, 2)`, in nominal image sizes.
        weights: of the slices in the image that the network adds to, `(B, in_channels)`; 0 where it makes all of it.
    """

    condition: Tensor
    noise: Tensor
    place: Tensor
    weights: Tensor


def encoded(numbers: Tensor) -> Tensor:
    """Numbers from 0 to 1 as features: `(B, N) -> (B, 9 N)`, each x as 2x-1 and sines, cosines of kπx/2, k = 1..4.

    Of a plain number the normalisation of the mapping would leave the sign.
    """
    angle = numbers[:, :, None] * torch.arange(1, WAVES + 1, device=numbers.device) * (math.pi / 2)
    features = torch.cat([2 * numbers[:, :, None] - 1, angle.sin(), angle.cos()], dim=2)
    return features.flatten(1)


def numbers_of(
    *,
    delta: float,
    distance_mm: float,
    thickness_mm: float,
    spacing_mm: float,
    source_tesla: float,
    target_tesla: float,
) -> list[float]:
    """The :data:`NUMBERS` of a question, each from 0 to 1.

    Args:
        delta: place of the target between the second and the third slice, 0 to 1.
        distance_mm: between slices.
        thickness_mm: of slices, full width at half maximum of their profile.
        spacing_mm: between the slices of the target.
        source_tesla: field strength of the sources; of several the geometric mean.
        target_tesla: that of the target.
    """
    lengths = (_scaled(length, _MM) for length in (distance_mm, thickness_mm, spacing_mm))
    return [delta, *lengths, *(_scaled(tesla, _TESLA) for tesla in (source_tesla, target_tesla))]


def _scaled(value: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return min(max((math.log2(value) - low) / (high - low), 0.0), 1.0)


def interpolation_weights(delta: float, present: Sequence[bool]) -> list[float]:
    """Weights of four slices in the Catmull-Rom spline through them, at ``delta`` between the middle two; sum 1.

    The weight of a slice that is missing goes to its neighbour towards the place, which is there or one further on.

    Raises:
        ValueError: none of the two slices around the place is there.
    """
    d = delta
    weights = [
        0.5 * (-(d**3) + 2 * d**2 - d),
        0.5 * (3 * d**3 - 5 * d**2 + 2),
        0.5 * (-3 * d**3 + 4 * d**2 + d),
        0.5 * (d**3 - d**2),
    ]
    if not present[1] and not present[2]:
        raise ValueError("no slice is there beside the place")
    for missing, heir in ((0, 1), (3, 2), (1, 2), (2, 1)):
        if not present[missing]:
            weights[heir] += weights[missing]
            weights[missing] = 0.0
    return weights
