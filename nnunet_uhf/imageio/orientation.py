"""Which way the axes of a stored image run in the head, and turning an image to other axes and back, exactly (ours).

Letters are nibabel's: "LAS" is an image whose first axis runs to the patient's left, the second to the front, the third
upwards. Axes that are oblique count as those they are nearest to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from nnunet_uhf.types import Affine

#: The two ends of the three axes of a head.
ENDS = ("LR", "PA", "IS")
#: Said of images that are stored in several orientations.
MIXED = "mixed"


def axis_codes(affine: Affine) -> str | None:
    """Three letters, where the first, second and third array axis run to; None of a matrix that has no such axes.

    Args:
        affine: (4, 4), voxel index (x, y, z) to world mm.
    """
    if not np.isfinite(affine).all():
        return None
    codes = "".join(code or "" for code in aff2axcodes(affine))
    return codes if is_axis_codes(codes) else None


def is_axis_codes(value: object) -> bool:
    """Whether it is three letters, one for each axis of a head."""
    return isinstance(value, str) and len(value) == 3 and all(len(set(value) & set(ends)) == 1 for ends in ENDS)


@dataclass(frozen=True)
class Turn:
    """Axes exchanged and reversed: every voxel keeps its value.

    Attributes:
        axes: for each axis of the turned image (x, y, z) the axis of the stored one.
        reverses: for each axis of the turned image whether it runs the other way.
    """

    axes: tuple[int, int, int]
    reverses: tuple[bool, bool, bool]

    @classmethod
    def between(cls, stored: str, wanted: str) -> Turn:
        """From one orientation to another, as :func:`axis_codes` names them."""
        axes = [next(n for n, code in enumerate(stored) if {code, letter} <= set(_ends(letter))) for letter in wanted]
        reverses = [stored[axis] != letter for axis, letter in zip(axes, wanted, strict=True)]
        return cls((axes[0], axes[1], axes[2]), (reverses[0], reverses[1], reverses[2]))

    @property
    def turns_nothing(self) -> bool:
        """Whether both orientations are one."""
        return self.axes == (0, 1, 2) and not any(self.reverses)

    def turned(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """A stored array `(..., Z, Y, X)`, axes counted backwards as SimpleITK gives them, turned."""
        return np.ascontiguousarray(np.flip(array.transpose(_places(array.ndim, self.axes)), self._flipped(array.ndim)))

    def back(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """A turned array `(..., Z, Y, X)` as it would be stored."""
        inverse = [self.axes.index(axis) for axis in range(3)]
        flipped = np.flip(array, self._flipped(array.ndim))
        return np.ascontiguousarray(flipped.transpose(_places(array.ndim, inverse)))

    def turned_steps(self, steps: Sequence[float]) -> list[float]:
        """What a stored image has along its axes (z, y, x), like spacings, in the order of the turned one's."""
        return [steps[2 - self.axes[2 - place]] for place in range(3)]

    def _flipped(self, ndim: int) -> tuple[int, ...]:
        return tuple(ndim - 1 - axis for axis in range(3) if self.reverses[axis])


def _ends(letter: str) -> str:
    return next(ends for ends in ENDS if letter in ends)


def _places(ndim: int, axes: Sequence[int]) -> list[int]:
    """Axes (x, y, z) as places in an array `(..., Z, Y, X)`."""
    return [*range(ndim - 3), *(ndim - 1 - axes[ndim - 1 - place] for place in range(ndim - 3, ndim))]
