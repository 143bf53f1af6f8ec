"""Simulated low-field partners of normalised high-field volumes and patches, as nnU-Net would normalise them (ours).

nnU-Net keeps z-scores, the simulator needs intensities that are proportional to the signal. The darkest voxels of a
case (0.1 % quantile) are taken for no signal: exact with air in the image, and close to it in a skull-stripped scan,
whose darkest voxels hold almost none. What is lost cannot change the contrast of grey and white matter: the draw sets
it.

A low-field scan would be z-scored by its own mean and standard deviation. A patch does not know them: see moments.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from nnunet_uhf.preprocessing.low_field.moments import Moments, measure_moments
from nnunet_uhf.preprocessing.low_field.simulator import (
    BRAIN,
    LowFieldDraw,
    LowFieldResult,
    LowFieldSimulator,
    tissue_means,
)
from nnunet_uhf.preprocessing.low_field.slice_profile import (
    Scalar,
    SliceProfile,
    at_slices,
    extend_to_multiple,
    fill_slices,
    filled_noise_variance,
)
from nnunet_uhf.preprocessing.low_field.tissues import TissueLabels, TissueMaps, one_hot_tissues
from nnunet_uhf.types import FloatArray, LabelArray

DARK_QUANTILE = 0.001
# of the lines along the slice axis, every fourth in each other direction is enough for means and deviations, and every
# second where slices are kept thick: a line has fewer of them
STRIDE = 4
NATIVE_STRIDE = 2
OUTSIDE = -1  # nnU-Net's label of voxels outside the nonzero mask, and of padding


@dataclass(frozen=True)
class CaseIntensities:
    """What patches must know of their case: the normalised value of no signal, and moments by axis and profile."""

    dark: float
    moments: Mapping[tuple[int, SliceProfile], Moments]


@dataclass(frozen=True, kw_only=True)
class PairSimulation:
    """How source and target are made from a normalised high-field image and its labels.

    Attributes:
        simulator: its axes count those of the volume (Z, Y, X), also for patches of two dimensions. On the grid
            `native`, with one axis and one profile, the source keeps its thick slices; on `regrid` it has the target's
            shape.
        tissues: labels of the tissues.
        masked: normalisation counts the nonzero mask only, and the outside is 0 (nnU-Net's `use_mask_for_norm`).
    """

    simulator: LowFieldSimulator
    tissues: TissueLabels
    masked: bool

    @property
    def native(self) -> bool:
        """Whether the source keeps its thick slices."""
        return self.simulator.grid == "native"

    def measure(self, image: FloatArray, labels: LabelArray) -> CaseIntensities:
        """Moments of a whole normalised case for every axis and profile; image and labels are `(Z, Y, X)`.

        Raises:
            UHFError: no grey or no white matter, or too few voxels for two slices.
        """
        counted = self._counted(labels)
        dark = float(np.quantile(image[counted][::STRIDE], DARK_QUANTILE))
        overall = tissue_means((image - np.float32(dark)).clip(0), one_hot_tissues(labels, self.tissues))
        moments = {}
        for axis in self.simulator.axes:
            stride = slice(None, None, NATIVE_STRIDE if self.native else STRIDE)
            lines = tuple(slice(None) if i == axis else stride for i in range(image.ndim))
            signal, maps = self._signal(image[lines], labels[lines], dark)
            for profile in self.simulator.profiles:
                moments[axis, profile] = measure_moments(
                    signal,
                    maps,
                    counted[lines],
                    self.simulator,
                    profile=profile,
                    axis=axis,
                    overall=overall,
                    stripped=self._stripped,
                )
        return CaseIntensities(dark, moments)

    def of_patch(
        self, image: FloatArray, labels: LabelArray, draw: LowFieldDraw, case: CaseIntensities
    ) -> tuple[FloatArray, FloatArray]:
        """Source and target of a patch, both z-scored like whole cases, shaped as the image: `(D, H, W)`, `(H, W)`.

        Where nnU-Net padded the patch, with 0, both stay 0. A `native` source has ceil(n / r) slices in the place of n
        voxels. A patch of any content: without brain, the source holds noise alone.
        """
        result, target = self._simulate(image, labels, draw, case)
        moments, size = case.moments[draw.axis, draw.profile], image.shape[draw.axis - 3]
        spread = 1.0 if self.native else filled_noise_variance(size=size, ratio=draw.profile.ratio)
        mean, std = moments.mean_and_std(result, self.simulator, spread=spread)
        inside = self._inside(result, labels, draw)
        if not self.masked:  # what nnU-Net pads is 0, in prediction as well: neither noise nor air
            padding = (labels <= 0) & (image == 0)
            target[padding] = 0
            inside &= ~self._on_source(padding, draw)
        return _normalised(result.image, inside, mean=mean, std=std), target

    def of_case(
        self, image: FloatArray, labels: LabelArray, draw: LowFieldDraw, case: CaseIntensities
    ) -> tuple[FloatArray, FloatArray]:
        """Source and target of a whole case `(Z, Y, X)`; the source is z-scored by its own mean and deviation.

        A `native` source has ceil(n / r) slices in the place of n voxels, so that every voxel of the target has one.
        """
        result, target = self._simulate(image, labels, draw, case)
        inside = self._inside(result, labels, draw)
        counted = result.image[inside]
        return _normalised(result.image, inside, mean=float(counted.mean()), std=float(counted.std())), target

    def interpolated(
        self, image: FloatArray, labels: LabelArray, draw: LowFieldDraw, case: CaseIntensities
    ) -> FloatArray:
        """The slices of :meth:`of_case` on the target's grid by a cubic spline, in raw-like intensities."""
        result, _ = self._simulate(image, labels, draw, case)
        return fill_slices(result.image, ratio=draw.profile.ratio, size=image.shape[draw.axis], axis=draw.axis)

    def _simulate(
        self, image: FloatArray, labels: LabelArray, draw: LowFieldDraw, case: CaseIntensities
    ) -> tuple[LowFieldResult, FloatArray]:
        """The simulated scan in raw-like intensities, and SIQT's target (G + W + C) * I, z-scored as the image is.

        Beside thick slices the target is dark outside the brain even where normalisation puts 0, the mean of the brain:
        the slices do not tell where the brain ends between them, so the network has to.
        """
        signal, maps = self._signal(image, labels, case.dark)
        target = np.where(maps.total() > BRAIN, image, np.float32(case.dark))
        means = case.moments[draw.axis, draw.profile].means
        own_axis = replace(draw, axis=draw.axis - 3 + image.ndim)
        if self.native:
            extend = partial(extend_to_multiple, ratio=draw.profile.ratio, axis=own_axis.axis)
            signal, maps = extend(signal), maps.map(extend)
        result = self.simulator.apply(signal, maps, own_axis, means=means)
        if self.masked and not self.native:
            target[labels == OUTSIDE] = 0
        return result, target

    def _signal(self, image: FloatArray, labels: LabelArray, dark: float) -> tuple[FloatArray, TissueMaps]:
        return (image - np.float32(dark)).clip(0), one_hot_tissues(labels, self.tissues)

    @property
    def _stripped(self) -> bool:
        """Whether thick slices have a nonzero mask of their own, as a skull-stripped scan has."""
        return self.native and self.masked and self.simulator.noise_mask == "brain"

    def _inside(self, result: LowFieldResult, labels: LabelArray, draw: LowFieldDraw) -> npt.NDArray[np.bool_]:
        """Voxels of the source whose mean and deviation make its z-score; the others are 0 then."""
        if self._stripped:
            return result.image != 0
        return self._counted(self._on_source(labels, draw))

    def _on_source(self, array: npt.NDArray[Scalar], draw: LowFieldDraw) -> npt.NDArray[Scalar]:
        """An array of the target's shape on the grid of the source."""
        return at_slices(array, ratio=draw.profile.ratio, axis=draw.axis - 3 + array.ndim) if self.native else array

    def _counted(self, labels: LabelArray) -> npt.NDArray[np.bool_]:
        """Voxels whose mean and deviation make the z-score."""
        return labels != OUTSIDE if self.masked else np.ones(labels.shape, dtype=bool)


def _normalised(scan: FloatArray, inside: npt.NDArray[np.bool_], *, mean: float, std: float) -> FloatArray:
    source = (scan - np.float32(mean)) / np.float32(max(std, 1e-8))  # nnU-Net's floor
    source[~inside] = 0
    return source
