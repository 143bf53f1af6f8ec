"""Labelled slices of preprocessed cases: where they are, what they show, and cutting them out (ours).

A slice's relative position is its place in the labelled extent of its case: 0 at the first labelled slice, 1 at the
last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.types import FloatArray

LOW, HIGH = 0.1, 99.9
"""Percentiles of labelled voxels that become -1 and 1."""
VOXELS = 20_000
"""Of a case, for its domain's percentiles."""


@dataclass(frozen=True)
class LabelledSlices:
    """The labelled slices of a case.

    Attributes:
        numbers: along the first axis of its array, rising.
        boxes: of their labels, `(slices, 4)`: first and last row, first and last column.
    """

    numbers: np.ndarray[Any, np.dtype[np.int64]]
    boxes: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def positions(self) -> FloatArray:
        """Relative positions, 0 to 1, of all of them."""
        first, last = self.numbers[0], self.numbers[-1]
        positions: FloatArray = ((self.numbers - first) / max(1, last - first)).astype(np.float32)
        return positions

    def at(self, position: float) -> int:
        """The one nearest to a relative position, as a place among them."""
        return int(np.abs(self.positions - position).argmin())


def labelled_slices(case: str, labels: Any) -> LabelledSlices:
    """Find them in the labels `(1, Z, Y, X)` of a case; UHFError when there are none."""
    inside = np.asarray(labels[0]) > 0
    numbers = np.flatnonzero(inside.any(axis=(1, 2)))
    if not len(numbers):
        raise UHFError(
            f"case {case} has no labelled voxel; its label file must mark the brain (any label above 0): correct "
            "labelsTr and preprocess again"
        )
    boxes = []
    for number in numbers:
        rows, columns = (np.flatnonzero(inside[number].any(axis=axis)) for axis in (1, 0))
        boxes.append((rows[0], rows[-1], columns[0], columns[-1]))
    return LabelledSlices(numbers, np.array(boxes))


def labelled_values(data: Any, labels: Any, *, seed: int = 0) -> FloatArray:
    """Some of the values of labelled voxels of a case, of every place of it alike."""
    values = np.asarray(data[0], dtype=np.float32)[np.asarray(labels[0]) > 0]
    if len(values) <= VOXELS:
        return values
    return values[np.random.default_rng(seed).choice(len(values), VOXELS, replace=False)]


def value_range(values: Sequence[FloatArray], domain: str) -> list[float]:
    """The percentiles of a domain that become -1 and 1; UHFError when its images have no contrast."""
    low, high = np.percentile(np.concatenate(values), (LOW, HIGH))
    if not low < high:
        raise UHFError(f"the images of {domain} have no contrast where they are labelled; check images and labels")
    return [float(low), float(high)]


def cut_slices(data: Any, number: int, count: int = 1) -> FloatArray:
    """Neighbouring slices `(count, Y, X)` around one of a case `(1, Z, Y, X)`; beyond its ends the last one repeats.

    Nothing else of the case is read.
    """
    wanted = np.clip(np.arange(number - count // 2, number + count // 2 + 1), 0, data.shape[1] - 1)
    return np.stack([np.asarray(data[0, int(one)], dtype=np.float32) for one in wanted])


Pixels = TypeVar("Pixels", bound=np.generic)


def centred_crop(image: NDArray[Pixels], box: Sequence[int], size: Sequence[int], *, fill: float) -> NDArray[Pixels]:
    """The part of an image `(C, Y, X)` of a given size whose centre is that of a box; what lies beyond is filled."""
    centres = ((box[0] + box[1] + 1) // 2, (box[2] + box[3] + 1) // 2)
    starts = [centre - length // 2 for centre, length in zip(centres, size, strict=True)]
    result = np.full((image.shape[0], *size), fill, dtype=image.dtype)
    taken = [
        slice(max(0, start), max(0, min(extent, start + length)))
        for start, length, extent in zip(starts, size, image.shape[1:], strict=True)
    ]
    put = [slice(part.start - start, part.stop - start) for part, start in zip(taken, starts, strict=True)]
    result[:, put[0], put[1]] = image[:, taken[0], taken[1]]
    return result
