"""Mean and deviation of a whole simulated scan, for patches that must be z-scored as the scan would be (ours).

They follow for every draw from a few moments of the case, which are measured once, at the profile and axis of the draw.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.simulator import (
    BRAIN,
    LowFieldResult,
    LowFieldSimulator,
    TissueMeans,
    tissue_means,
)
from nnunet_uhf.preprocessing.low_field.slice_profile import (
    SliceProfile,
    at_slices,
    extend_to_multiple,
    fill_slices,
    take_slices,
)
from nnunet_uhf.preprocessing.low_field.tissues import TissueMaps
from nnunet_uhf.types import FloatArray, Mask


class Moments(NamedTuple):
    """Noise-free simulated scan, rest + scale * scaled tissue: moments over the voxels that normalisation counts.

    `means` are those of pure voxels on the thick slices; `silent` is the share of voxels without tissue.
    """

    means: TissueMeans
    rest: float
    scaled: float
    rest_rest: float
    rest_scaled: float
    scaled_scaled: float
    silent: float

    def mean_and_std(
        self, result: LowFieldResult, simulator: LowFieldSimulator, *, spread: float
    ) -> tuple[float, float]:
        """Mean and deviation of the whole scan with the tissue scale and the noise of a result.

        Args:
            result: of a part of the scan.
            simulator: which made it.
            spread: variance of the noise on the source's grid, where it is 1 on the slices.
        """
        scale, variance = result.tissue_scale, result.noise_sigma**2
        mean = self.rest + scale * self.scaled
        square = self.rest_rest + 2 * scale * self.rest_scaled + scale**2 * self.scaled_scaled
        square += (1 - self.silent) * variance * spread
        if simulator.noise_mask == "everywhere":
            if simulator.noise == "gaussian":
                square += self.silent * variance * spread
            else:  # where there is no signal, a magnitude image has Rayleigh noise
                mean += self.silent * result.noise_sigma * math.sqrt(math.pi / 2)
                square += self.silent * variance * ((2 - math.pi / 2) * spread + math.pi / 2)
        return mean, math.sqrt(max(square - mean**2, 0.0))


def measure_moments(
    signal: FloatArray,
    maps: TissueMaps,
    counted: Mask,
    simulator: LowFieldSimulator,
    *,
    profile: SliceProfile,
    axis: int,
    overall: TissueMeans,
    stripped: bool,
) -> Moments:
    """Moments of a case along one axis.

    Args:
        signal: intensities (*S), 0 where there is no signal.
        maps: tissues (*S).
        counted: voxels (*S) whose mean and deviation make the z-score.
        simulator: its draws will be normalised.
        profile: of the slices.
        axis: of the slices.
        overall: tissue means where thick slices leave no pure voxel.
        stripped: count the brain of the thick slices in place of `counted`, as a skull-stripped scan has it.

    Raises:
        UHFError: too few voxels for two slices.
    """
    native = simulator.grid == "native"
    if native:
        extend = partial(extend_to_multiple, ratio=profile.ratio, axis=axis)
        signal, maps, counted = extend(signal), maps.map(extend), at_slices(counted, ratio=profile.ratio, axis=axis)
    size = signal.shape[axis]

    def fill(slices: FloatArray) -> FloatArray:
        return slices if native else fill_slices(slices, ratio=profile.ratio, size=size, axis=axis)

    thick = partial(take_slices, profile=profile, axis=axis)
    slices, thick_maps = thick(signal), maps.map(thick)
    try:
        means = tissue_means(slices, thick_maps)
    except UHFError:
        means = overall
    kept, scaled_map = (thick_maps.gm, thick_maps.wm) if simulator.fixed == "gm" else (thick_maps.wm, thick_maps.gm)
    rest, scaled = fill((kept + thick_maps.csf) * slices), fill(scaled_map * slices)
    brain = fill(thick_maps.total()) >= BRAIN
    if simulator.noise_mask == "brain":
        rest, scaled = rest * brain, scaled * brain
    if stripped:
        counted = brain
    a, b = (array[counted].astype(float) for array in (rest, scaled))
    return Moments(
        means=means,
        rest=float(a.mean()),
        scaled=float(b.mean()),
        rest_rest=float((a * a).mean()),
        rest_scaled=float((a * b).mean()),
        scaled_scaled=float((b * b).mean()),
        silent=1.0 - float(brain[counted].mean()),
    )
