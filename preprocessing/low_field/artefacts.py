"""Bias field, motion, k-space spikes and cropped k-space on a simulated scan (extras, ours).

They act on the noise-free thick slices, as coil, patient, spark and a short acquisition do; noise is added afterwards,
white on the grid whatever was cropped. SIQT has none. All but the crop are torchio's, with parameters drawn here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError
from nnunet_uhf.types import FloatArray

if TYPE_CHECKING:
    import torch

Numbers = tuple[float, ...]
BIAS_ORDER = 3
BIAS_TERMS = 20  # polynomial terms of three variables up to order 3


@dataclass(frozen=True, kw_only=True)
class ArtefactDraw:
    """The artefacts of one scan; nothing is random once this is drawn.

    Attributes:
        bias: coefficients of the logarithm of the bias field, empty for none.
        rotations: degrees about the slice direction and the two in-plane axes, one triple a movement.
        shifts: voxels of the input along the same axes, one triple a movement.
        times: when the movements happen, 0 to 1 of the acquisition.
        phase_axis: 0 or 1, the in-plane axis that is phase-encoded.
        spikes: places in k-space as fractions of its size, one triple a spike.
        spike_intensity: of a spike, relative to the largest value of k-space.
        acquired: share of k-space that is kept along the two in-plane axes (one in an array of two axes), empty for
            all of it.
    """

    bias: Numbers = ()
    rotations: tuple[Numbers, ...] = ()
    shifts: tuple[Numbers, ...] = ()
    times: Numbers = ()
    phase_axis: int = 0
    spikes: tuple[Numbers, ...] = ()
    spike_intensity: float = 0.0
    acquired: Numbers = ()


@dataclass(frozen=True, kw_only=True)
class Artefacts:
    """How often and how strongly scans are disturbed; the defaults disturb none.

    Attributes:
        bias_field: every scan gets exp(polynomial of order 3) with coefficients within +-this, scaled so that the mean
            signal stays; 0 to 1, 0.5 is strong.
        motion_probability: share of scans during which the head moves.
        motion_degrees, motion_voxels: each movement's largest rotation and shift per axis.
        movements: their number in a scan that has them.
        spike_probability: share of scans with spikes in k-space.
        spikes: their number in a scan that has them.
        spike_intensity: largest, relative to the largest value of k-space.
        kspace_crop: every scan loses up to this share of k-space along each in-plane axis, 0 to 0.9: at 0.5 its voxels
            are up to twice as wide as the grid's.

    Raises:
        UHFError: a value out of range, or torchio is needed (all but the crop) and not installed.
    """

    bias_field: float = 0.0
    motion_probability: float = 0.0
    motion_degrees: float = 3.0
    motion_voxels: float = 2.0
    movements: int = 2
    spike_probability: float = 0.0
    spikes: int = 1
    spike_intensity: float = 0.5
    kspace_crop: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "bias_field": 1.0,
            "motion_probability": 1.0,
            "spike_probability": 1.0,
            "motion_degrees": 45.0,
            "motion_voxels": 50.0,
            "spike_intensity": 10.0,
            "kspace_crop": 0.9,
        }
        for name, most in limits.items():
            if not 0 <= getattr(self, name) <= most:
                raise UHFError(f"{name} is {getattr(self, name)}: give a number from 0 to {most:g}")
        for name in ("movements", "spikes"):
            if not 1 <= getattr(self, name) <= 20:
                raise UHFError(f"{name} is {getattr(self, name)}: give a whole number from 1 to 20")
        if self._of_torchio:
            _torchio()

    @property
    def enabled(self) -> bool:
        """Whether any scan is disturbed at all."""
        return bool(self._of_torchio or self.kspace_crop)

    @property
    def _of_torchio(self) -> bool:
        return bool(self.bias_field or self.motion_probability or self.spike_probability)

    def draw(self, rng: np.random.Generator) -> ArtefactDraw:
        """Draw the artefacts of one scan."""
        drawn: dict[str, Any] = {}
        if self.bias_field:
            drawn["bias"] = _numbers(rng.uniform(-self.bias_field, self.bias_field, BIAS_TERMS))
        if rng.random() < self.motion_probability:
            size = (self.movements, 3)
            step = 1 / (self.movements + 1)
            jitter = rng.uniform(-step / 3, step / 3, self.movements)
            drawn["rotations"] = tuple(map(_numbers, rng.uniform(-self.motion_degrees, self.motion_degrees, size)))
            drawn["shifts"] = tuple(map(_numbers, rng.uniform(-self.motion_voxels, self.motion_voxels, size)))
            drawn["times"] = _numbers(step * np.arange(1, self.movements + 1) + jitter)
            drawn["phase_axis"] = int(rng.integers(2))
        if rng.random() < self.spike_probability:
            drawn["spikes"] = tuple(map(_numbers, rng.random((self.spikes, 3))))
            drawn["spike_intensity"] = float(rng.uniform(0, self.spike_intensity))
        if self.kspace_crop:
            drawn["acquired"] = _numbers(1 - rng.uniform(0, self.kspace_crop, 2))
        return ArtefactDraw(**drawn)


def disturb(signal: FloatArray, draw: ArtefactDraw, *, axis: int, ratio: int) -> FloatArray:
    """The noise-free scan with the artefacts that were drawn; same shape.

    Args:
        signal: thick slices, `(D, H, W)` or `(H, W)`.
        draw: what to do.
        axis: slice axis of the array.
        ratio: distance of the slices in voxels of the other axes.

    In an array of two axes the slice axis is the first in-plane one, and movements stay in the plane.
    """
    if draw.bias or draw.times or draw.spikes:
        signal = _disturbed_by_torchio(signal, draw, axis=axis, ratio=ratio)
    return _cropped(signal, draw.acquired, axis=axis) if draw.acquired else signal


def _cropped(signal: FloatArray, acquired: Numbers, *, axis: int) -> FloatArray:
    """Magnitude of the scan whose k-space is zero beyond the acquired share along its in-plane axes."""
    plane = [other for other in range(signal.ndim) if other != axis]
    kspace = np.fft.fftn(signal, axes=plane)
    for along, share in zip(plane, acquired, strict=False):  # an array of two axes has one in-plane axis
        frequency = np.abs(np.fft.fftfreq(signal.shape[along])) * 2  # 1 is Nyquist's
        shape = [-1 if other == along else 1 for other in range(signal.ndim)]
        kspace *= (frequency <= share).reshape(shape)
    return np.abs(np.fft.ifftn(kspace, axes=plane)).astype(np.float32)


def _disturbed_by_torchio(signal: FloatArray, draw: ArtefactDraw, *, axis: int, ratio: int) -> FloatArray:
    tio = _torchio()
    rotations, shifts = (np.array(values, dtype=np.float64) for values in (draw.rotations, draw.shifts))
    # the first axis is the normal of the acquired plane, torchio encodes the phase along the last one
    if signal.ndim == 2:
        volume, order, spacing = signal[None], [0, axis + 1, 2 - axis], [1.0, ratio, 1.0]
        if draw.times:
            rotations[:, 1:], shifts[:, 0] = 0, 0
    else:
        plane = [other for other in range(3) if other != axis]
        volume, order, spacing = signal, [axis, plane[1 - draw.phase_axis], plane[draw.phase_axis]], [ratio, 1.0, 1.0]
    image, affine = _as_tensor(volume.transpose(order)), np.diag([*spacing, 1.0])
    if draw.bias:
        biased = _apply(tio.BiasField(list(draw.bias), BIAS_ORDER), image, affine)
        image = biased * (image.sum() / biased.sum()) if bool((image > 0).any()) else image
    if draw.times:
        image = _apply(tio.Motion(rotations, shifts, np.array(draw.times), "linear"), image, affine)
    if draw.spikes:
        image = _apply(tio.Spike(np.array(draw.spikes), draw.spike_intensity), image, affine)
    result = image[0].numpy().transpose(np.argsort(order)).reshape(signal.shape)
    return np.ascontiguousarray(result, dtype=np.float32)


def _apply(transform: Any, image: torch.Tensor, affine: npt.NDArray[np.float64]) -> torch.Tensor:
    changed: torch.Tensor = transform(_torchio().ScalarImage(tensor=image, affine=affine)).data
    return changed


def _as_tensor(array: npt.NDArray[np.floating]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]


def _numbers(values: npt.NDArray[np.float64]) -> Numbers:
    return tuple(float(value) for value in values)


def _torchio() -> Any:
    try:
        import torchio
    except ImportError:
        raise UHFError(
            "bias field, motion and spikes are made by torchio, which is not installed: "
            'pip install "nnunet-uhf[artefacts]", or leave them out'
        ) from None
    return torchio
