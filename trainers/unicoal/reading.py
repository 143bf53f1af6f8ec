"""Slices of a case for a question, read when nnU-Net's loader cuts its patch (ours).

nnU-Net's data loader loads a case, asks its shape, and cuts a patch of it. Here the case is an array whose channels are
four slices of every source and the slice that is asked for: only what they need is read. Values are counted from the
darkest, so that outside is 0 for all of nnU-Net's transforms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnunet_uhf.inference.unit_range import UnitRange, unit_range
from nnunet_uhf.networks.unicoal.modalities import Slices
from nnunet_uhf.networks.unicoal.question import SLICES
from nnunet_uhf.preprocessing.low_field.slice_profile import profile_weights
from nnunet_uhf.routes.modalities import ModalityTask
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.trainers.unicoal.drawing import Draw, draw_question
from nnunet_uhf.types import FloatArray

VALIDATION_SEED = 0
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class CaseRanges:
    """What is measured of a case: the range of every modality; None of one that it lacks."""

    ranges: Mapping[str, UnitRange | None]

    @property
    def missing(self) -> frozenset[str]:
        """Modalities that the case lacks."""
        return frozenset(name for name, known in self.ranges.items() if known is None)


@dataclass(frozen=True, kw_only=True)
class ReadingPlan:
    """What plans say that reading needs.

    Attributes:
        masked: by modality, whether normalisation counts the nonzero mask only.
        transpose: nnU-Net's `transpose_forward`.
        size: nominal size of the network's images in pixels.
    """

    masked: Mapping[str, bool]
    transpose: Sequence[int]
    size: int


class AskedCase:
    """A case under a question, as an array `(slices of sources + targets, Z, Y, X)` of which patches are cut.

    Attributes:
        asked: the question of the last patch that was cut.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        task: ModalityTask,
        plan: ReadingPlan,
        draw: Draw,
        ranges: CaseRanges,
        data: Any,
        labels: Any,
        spacing_mm: float,
    ) -> None:
        self.task, self.plan, self.draw, self.ranges = task, plan, draw, ranges
        self.data, self.labels, self.spacing_mm = data, labels, spacing_mm
        targets = 2 if task.consistency else 1
        self.shape = (task.modalities.in_channels + targets, *data.shape[1:])
        self.patch: Sequence[int] | None = None
        self.asked: Tensor | None = None

    def __getitem__(self, where: tuple[slice, ...]) -> FloatArray:
        """The patch of one slice; :attr:`asked` tells the rest of the question."""
        _, through, *plane = where
        if through.stop - through.start != 1:
            raise ValueError("patches of a case under a question are single slices")
        index = int(through.start)
        known = self.task.modalities
        positions, delta = self.draw.positions(index)
        patch = np.zeros((self.shape[0], 1, *(part.stop - part.start for part in plane)), dtype=np.float32)
        present = [-0.5 <= position <= self.shape[1] - 0.5 for position in positions]
        for source in self.draw.sources:
            first = SLICES * known.slot(source)
            patch[first : first + SLICES, 0] = self._slices(source, positions, present, plane)
        other, other_delta = self._neighbour(index, delta)
        patch[known.in_channels, 0] = self._plane(self.draw.target, index, plane)
        if self.task.consistency:
            patch[known.in_channels + 1, 0] = self._plane(self.draw.target, other, plane)
        parts = [torch.tensor(self._place(plane)), *self._told(delta, present)]
        if self.task.consistency:
            parts += self._told(other_delta, present)
        self.asked = torch.cat(parts)
        return patch

    def _told(self, delta: float, present: Sequence[bool]) -> list[Tensor]:
        """Condition and weights of a place."""
        draw, known, mm = self.draw, self.task.modalities, self.spacing_mm
        slices = Slices(distance_mm=draw.ratio * mm, thickness_mm=draw.ratio * (1 - draw.gap) * mm)
        condition = known.condition(draw.target, draw.sources, delta=delta, slices=slices, spacing_mm=mm)
        weights = known.weights(draw.target, draw.sources, delta=delta, present=present, slices=slices, spacing_mm=mm)
        return [condition, weights]

    def _neighbour(self, index: int, delta: float) -> tuple[int, float]:
        """The slice beside it that the same four slices can answer, and its place; itself where there is none."""
        step = 1 / self.draw.ratio
        for other, place in ((index + 1, delta + step), (index - 1, delta - step)):
            if 0 <= other < self.shape[1] and -1e-6 <= place <= 1 + 1e-6:
                return other, min(max(place, 0.0), 1.0)
        return index, delta

    def _place(self, plane: Sequence[slice]) -> list[float]:
        """Where the middle of the whole patch lies from the middle of the slice, in nominal image sizes."""
        if not self.task.modalities.position:
            return [0.0, 0.0]
        places = []
        for axis, part in enumerate(plane):
            start, stop, length = part.start, part.stop, self.shape[2 + axis]
            if self.patch is not None and stop - start < self.patch[axis] < length:
                # cut at one side of the slice, and padded there later
                start, stop = (stop - self.patch[axis], stop) if start == 0 else (start, start + self.patch[axis])
            places.append(((start + stop) / 2 - length / 2) / self.plan.size)
        return places

    def _slices(
        self, source: str, positions: Sequence[float], present: Sequence[bool], plane: Sequence[slice]
    ) -> FloatArray:
        if self.draw.ratio == 1 or source in self.task.thick or not self.task.profile:
            planes = [
                self._plane(source, round(position), plane) if there else np.float32(0)
                for position, there in zip(positions, present, strict=True)
            ]
            empty = np.zeros([part.stop - part.start for part in plane], dtype=np.float32)
            return np.stack([empty + one for one in planes])
        thickness = self.draw.ratio * (1 - self.draw.gap)
        weights = profile_weights(self.shape[1], positions, thickness=thickness)
        weights[~np.array(present)] = 0
        (used,) = np.nonzero(weights.any(axis=0))
        read = slice(int(used[0]), int(used[-1]) + 1)
        block = self._read(source, (read, *plane))
        return np.tensordot(weights[:, read].astype(np.float32), block, axes=1)

    def _plane(self, name: str, index: int, plane: Sequence[slice]) -> FloatArray:
        return self._read(name, (slice(index, index + 1), *plane))[0]

    def _read(self, name: str, where: tuple[slice, ...]) -> FloatArray:
        known = self.ranges.ranges[name]
        assert known is not None
        image = np.asarray(self.data[(slice(self._channel(name), self._channel(name) + 1), *where)])[0]
        inside = np.asarray(self.labels[(slice(0, 1), *where)])[0] >= 0 if self.plan.masked[name] else None
        return known.shifted(image, inside)

    def _channel(self, name: str) -> int:
        return self.task.channels[name]


class AskedDataset:
    """nnU-Net's dataset whose cases come each under a question, drawn anew or by the name of the case.

    Attributes:
        asked: the question of the patch that was cut last.
        patch: size of patches in the plane before they are padded.
    """

    def __init__(
        self, dataset: Any, task: ModalityTask, plan: ReadingPlan, cases: Mapping[str, CaseRanges], *, by_case: bool
    ) -> None:
        self.dataset, self.task, self.plan, self.cases, self.by_case = dataset, task, plan, cases, by_case
        self.identifiers: list[str] = [name for name in dataset.identifiers if self._has_question(name)]
        self.patch: Sequence[int] | None = None
        self._current: AskedCase | None = None

    def _has_question(self, name: str) -> bool:
        shown = draw_question(self.task, self.cases[name].missing, 1000, np.random.default_rng(0))
        return shown is not None

    @property
    def asked(self) -> Tensor:
        """Place, condition and weights, and those of the neighbour, in one row."""
        if self._current is None or self._current.asked is None:
            raise RuntimeError("no patch of this dataset was cut yet")
        return self._current.asked

    def load_case(self, identifier: str) -> tuple[AskedCase, Any, None, dict[str, Any]]:
        """The case under a question; nnU-Net cuts a patch of it next."""
        data, labels, _, properties = self.dataset.load_case(identifier)
        # nnU-Net seeds numpy's global state in each worker
        seed = np.random.randint(LARGEST_SEED, dtype=np.int64)  # noqa: NPY002
        rng = case_generator(VALIDATION_SEED, identifier) if self.by_case else np.random.default_rng(seed)
        ranges = self.cases[identifier]
        draw = draw_question(self.task, ranges.missing, data.shape[1], rng)
        assert draw is not None
        spacing = float(properties["spacing"][self.plan.transpose[0]])
        self._current = AskedCase(self.task, self.plan, draw, ranges, data, labels, spacing)
        self._current.patch = self.patch
        return self._current, labels, None, properties

    def __getitem__(self, identifier: str) -> Any:
        return self.load_case(identifier)


def measure_ranges(task: ModalityTask, plan: ReadingPlan, data: Any, labels: Any) -> CaseRanges:
    """The range of every modality of a whole preprocessed case."""
    inside: NDArray[np.bool_] = np.asarray(labels[0]) >= 0
    ranges = {}
    for name, channel in task.channels.items():
        image = np.asarray(data[channel], dtype=np.float32)
        ranges[name] = unit_range(image, inside if plan.masked[name] else None)
    return CaseRanges(ranges=ranges)
