"""Low-field image from a high-field image and its tissue maps: SIQT's forward model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.artefacts import ArtefactDraw, Artefacts, disturb
from nnunet_uhf.preprocessing.low_field.contrast import SNRDistribution
from nnunet_uhf.preprocessing.low_field.slice_profile import SliceProfile, fill_slices, take_slices
from nnunet_uhf.preprocessing.low_field.tissues import TissueMaps
from nnunet_uhf.types import FloatArray

# Voxels that count as one tissue when its mean is taken (SIQT)
PURE_TISSUE = 0.9
# Voxels that count as brain when the scan is limited to it (ours)
BRAIN = 0.5


class TissueMeans(NamedTuple):
    """Mean intensity of the pure voxels of grey and white matter, both > 0."""

    gm: float
    wm: float


@dataclass(frozen=True, kw_only=True)
class LowFieldDraw:
    """One scan's parameters: with these, `LowFieldSimulator.apply` has no randomness left.

    Attributes:
        snr_wm: white matter mean over noise sigma, > 0.
        snr_gm: the same of grey matter, > 0.
        profile: slice thickness and gap.
        axis: slice axis of the array.
        noise_scale: factor on the noise sigma, >= 0; the image's SNR is the drawn one divided by it.
        noise_seed: seed of the noise field.
        artefacts: bias field, motion and spikes; None for a scan without.
    """

    snr_wm: float
    snr_gm: float
    profile: SliceProfile
    axis: int
    noise_scale: float
    noise_seed: int
    artefacts: ArtefactDraw | None = None


@dataclass(frozen=True, kw_only=True)
class LowFieldResult:
    """What `LowFieldSimulator.apply` gives back.

    Attributes:
        image: float32; thick slices (`native`) or the input's grid (`regrid`).
        noise_sigma: standard deviation of the noise put on the thick slices, intensity units of the input.
        means: tissue means the scaling was based on.
        tissue_scale: factor on the scaled tissue (white matter in GM-fixed mode).
    """

    image: FloatArray
    noise_sigma: float
    means: TissueMeans
    tissue_scale: float


@dataclass(frozen=True, kw_only=True)
class LowFieldSimulator:
    """Stochastic low-field simulator.

    Attributes:
        snr: distribution of (SNR_WM, SNR_GM) over scans.
        profiles: slice profiles, one is drawn, all equally likely.
        axes: slice axes of the array, one is drawn, all equally likely.
        fixed: tissue that keeps its brightness, `gm` or `wm`; the other is scaled, CSF never is.
        noise: `gaussian` (negative values possible) or `rician` (magnitude image).
        noise_scale: range of a factor on the noise, uniform; above 1 is noisier than the SNR table says.
        noise_mask: `everywhere` as on a scanner, or `brain`: exactly zero outside, as after skull stripping.
        grid: `native` keeps the thick slices, `regrid` fills them to the input's grid with a cubic spline.
        reject_outliers: keep the SNR pair inside the 95 % ellipse of its distribution (ours).
        artefacts: bias field, motion and k-space spikes on the noise-free slices; none by default (ours).

    Raises:
        UHFError: values out of range.

    Source: SIQT; `reject_outliers`, `noise_scale` and `noise_mask` are ours.

    Examples:
        Parameters are drawn apart from being applied:

        >>> import numpy as np
        >>> from nnunet_uhf import LowFieldSimulator, tissues_from_labels
        >>> from nnunet_uhf.preprocessing.low_field import find_preset, profile_for_ratio
        >>> labels = np.zeros((16, 16, 16), dtype=int)
        >>> labels[2:14, 2:14, 2:14], labels[4:12, 4:12, 4:12] = 2, 3  # grey matter around white matter
        >>> image = np.choose(labels, [0, 30, 60, 90])
        >>> tissues = tissues_from_labels(labels, {"csf": 1, "gm": 2, "wm": 3})
        >>> simulator = LowFieldSimulator(
        ...     snr=find_preset("flair_0.36T").snr, profiles=(profile_for_ratio(2),), axes=(0, 2)
        ... )
        >>> draw = simulator.draw(np.random.default_rng(1))
        >>> draw.axis, draw.profile.ratio
        (0, 2)
        >>> simulator.apply(image, tissues, draw).image.shape
        (16, 16, 16)
    """

    snr: SNRDistribution
    profiles: tuple[SliceProfile, ...]
    axes: tuple[int, ...] = (2,)
    fixed: Literal["gm", "wm"] = "gm"
    noise: Literal["gaussian", "rician"] = "gaussian"
    noise_scale: tuple[float, float] = (1.0, 1.0)
    noise_mask: Literal["everywhere", "brain"] = "everywhere"
    grid: Literal["native", "regrid"] = "regrid"
    reject_outliers: bool = False
    artefacts: Artefacts = field(default_factory=Artefacts)

    def __post_init__(self) -> None:
        choices = (
            ("fixed", self.fixed, ("gm", "wm")),
            ("noise", self.noise, ("gaussian", "rician")),
            ("noise mask", self.noise_mask, ("everywhere", "brain")),
            ("mode", self.grid, ("native", "regrid")),
        )
        for what, value, allowed in choices:
            if value not in allowed:
                raise UHFError(f"{what} is {value!r}: use {' or '.join(allowed)}")
        low, high = self.noise_scale
        if not 0 <= low <= high < float("inf"):
            raise UHFError(f"noise scale is {self.noise_scale}: give a range (low, high) with 0 <= low <= high")
        if not self.profiles or not self.axes:
            raise UHFError("the simulator has no slice profile or no slice axis to choose from: give at least one")

    def draw(self, rng: np.random.Generator) -> LowFieldDraw:
        """Draw the parameters of one scan."""
        snr_wm, snr_gm = self.snr.draw(rng, reject_outliers=self.reject_outliers)[0]
        return LowFieldDraw(
            snr_wm=float(snr_wm),
            snr_gm=float(snr_gm),
            profile=self.profiles[int(rng.integers(len(self.profiles)))],
            axis=self.axes[int(rng.integers(len(self.axes)))],
            noise_scale=float(rng.uniform(*self.noise_scale)),
            noise_seed=int(rng.integers(2**63)),
            artefacts=self.artefacts.draw(rng) if self.artefacts.enabled else None,
        )

    def apply(
        self,
        image: npt.NDArray[np.number],
        tissues: TissueMaps,
        draw: LowFieldDraw,
        *,
        means: TissueMeans | None = None,
    ) -> LowFieldResult:
        """Simulate the scan that `draw` describes.

        Args:
            image: skull-stripped high-field image, (*S), raw intensities (brain > 0, not z-scored).
            tissues: tissue maps on the same grid.
            draw: parameters of this scan.
            means: tissue means of the whole scan, for a patch that may hold no pure voxel; without them they are
                taken from the thick slices at hand.

        Raises:
            UHFError: unequal shapes, no such axis, too few voxels for two slices, no voxel with P > 0.9 of grey or
                white matter, or a tissue mean that is not positive.
        """
        _check_arrays(image, tissues, draw.axis)

        def thick(array: npt.NDArray[np.number]) -> FloatArray:
            return take_slices(array.astype(np.float32, copy=False), draw.profile, axis=draw.axis)

        slices, maps = thick(image), tissues.map(thick)
        if means is None:
            means = tissue_means(slices, maps)
        if self.fixed == "gm":
            sigma = means.gm / draw.snr_gm
            scale = draw.snr_wm * sigma / means.wm
            signal = (maps.gm + maps.csf + scale * maps.wm) * slices
        else:
            sigma = means.wm / draw.snr_wm
            scale = draw.snr_gm * sigma / means.gm
            signal = (maps.wm + maps.csf + scale * maps.gm) * slices
        sigma *= draw.noise_scale
        signal = signal.astype(np.float32, copy=False)
        if draw.artefacts is not None:
            signal = disturb(signal, draw.artefacts, axis=draw.axis, ratio=draw.profile.ratio)
        scan = self._add_noise(signal, sigma=sigma, seed=draw.noise_seed)
        brain = maps.total() if self.noise_mask == "brain" else None
        if self.grid == "regrid":
            fill = partial(fill_slices, ratio=draw.profile.ratio, size=image.shape[draw.axis], axis=draw.axis)
            scan, brain = fill(scan), None if brain is None else fill(brain)
        if brain is not None:
            scan[brain < BRAIN] = 0
        return LowFieldResult(image=scan, noise_sigma=sigma, means=means, tissue_scale=scale)

    def _add_noise(self, signal: FloatArray, *, sigma: float, seed: int) -> FloatArray:
        """White noise on the thick slices, before any resampling, as a scanner has it."""
        rng = np.random.default_rng(seed)

        def noise() -> FloatArray:
            return rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(sigma)

        if self.noise == "gaussian":
            return signal + noise()
        return np.hypot(signal + noise(), noise())


def tissue_means(image: FloatArray, tissues: TissueMaps) -> TissueMeans:
    """Mean intensity of grey and white matter over voxels with P > 0.9.

    Raises:
        UHFError: no such voxel, or a mean that is not positive.
    """
    means = []
    for name, probability in (("grey", tissues.gm), ("white", tissues.wm)):
        pure = probability > PURE_TISSUE
        if not pure.any():
            raise UHFError(
                f"no voxel has {name} matter probability > {PURE_TISSUE} at this slice thickness: "
                "check the tissue map or take thinner slices"
            )
        means.append(float(image[pure].mean(dtype=np.float64)))
        if not means[-1] > 0:
            raise UHFError(
                f"mean {name} matter intensity is {means[-1]:.3g}: the simulator needs raw intensities, not z-scores"
            )
    return TissueMeans(*means)


def target_image(image: npt.NDArray[np.number], tissues: TissueMaps) -> FloatArray:
    """SIQT's high-field target on the input grid, (G + W + C) * I; cut it with `crop_to_multiple` for `native`."""
    if image.shape != tissues.gm.shape:
        raise UHFError(f"image has shape {image.shape}, tissue maps {tissues.gm.shape}: bring them to one grid")
    return tissues.total() * image.astype(np.float32, copy=False)


def _check_arrays(image: npt.NDArray[np.number], tissues: TissueMaps, axis: int) -> None:
    """One grid, and an axis that exists."""
    for array in tissues:
        if array.shape != image.shape:
            raise UHFError(f"image has shape {image.shape}, a tissue map {array.shape}: bring them to one grid")
    if not 0 <= axis < image.ndim:
        raise UHFError(f"slice axis is {axis} but the image has axes 0 to {image.ndim - 1}")
