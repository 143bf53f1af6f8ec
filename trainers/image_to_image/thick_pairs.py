"""Pairs of high-field scans and thick slices of their low-field partners, simulated while training (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor

from nnunet_uhf.routes.simulation import SimulationTask
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.trainers.image_to_image.pair_source import Pair, image_and_labels
from nnunet_uhf.trainers.image_to_image.simulate_source import VALIDATION_SEED, SimulateSource
from nnunet_uhf.trainers.image_to_image.simulated_pairs import SimulatedPairs
from nnunet_uhf.trainers.image_to_image.thick_slices import OnSlices, ThickSlices
from nnunet_uhf.types import FloatArray


class ThickPairs(SimulatedPairs):
    """The simulated source keeps its thick slices (`"mode": "native"`): one for every block of the target begun.

    In a batch, whose channels have one shape, a slice fills its block.

    Attributes:
        slices: how they lie in a patch or volume.
    """

    def __init__(
        self, task: SimulationTask, *, channel: int = 0, patch_size: Sequence[int], masked: bool, where: str
    ) -> None:
        """As :class:`SimulatedPairs`; the task has one ratio and one axis."""
        super().__init__(task, channel=channel, patch_size=patch_size, masked=masked, where=where)
        self.slices = ThickSlices(task.axes[0] - 3, task.ratios[0])
        self.record = {**self.record, "mode": task.mode}

    def fitted(self, patch_size: Sequence[int]) -> list[int]:
        """Whole blocks along the slice axis."""
        return self.slices.fitted(patch_size)

    def stretch(self, dim: int) -> tuple[int, ...]:
        """The ratio of the slices along their axis."""
        return self.slices.stretch(dim)

    def masks(self, use_mask_for_norm: list[bool]) -> list[bool]:
        """Thick slices have a mask of their own, and beside them the target has none."""
        return [False, False]

    def on_source(self, transform: BasicTransform) -> BasicTransform:
        """On the slices themselves: copies of neighbouring ones must not be mixed."""
        return OnSlices(transform, self.source_channels[0], self.slices)

    def _simulate(self, *, by_case: bool) -> SimulateSource:
        return SimulateSource(self.simulation, self.cases, by_case=by_case, in_batch=self._fill_blocks)

    def _fill_blocks(self, source: Tensor, target: Tensor) -> Tensor:
        return self.slices.as_blocks(source, target.shape[self.slices.axis])

    def of_batch(self, batch: Mapping[str, Any], device: torch.device) -> Pair:
        """The slices as they are, and the target."""
        pair = super().of_batch(batch, device)
        return replace(pair, source=self.slices.of_blocks(pair.source))

    def before_enhancing(self, case: str, data: Any, labels: Any) -> FloatArray:
        """A cubic spline through the slices."""
        self.measure(case, data, labels)
        draw = self.simulation.simulator.draw(case_generator(VALIDATION_SEED, case))
        return self.simulation.interpolated(*image_and_labels(self.channel, data, labels), draw, self.cases[case])
