"""One simulated image of an anatomy at one field strength."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
from scipy import ndimage

from nnunet_uhf.preprocessing.synthesis.anatomy import Anatomy, SimulatedStructure
from nnunet_uhf.preprocessing.synthesis.relaxation import (
    PROTON_DENSITY,
    SNR_EXPONENT,
    t1_seconds,
    t2_seconds,
    t2_star_seconds,
)
from nnunet_uhf.preprocessing.synthesis.signal import Sequence, Signal
from nnunet_uhf.types import FloatArray

# Intensity of fluid whose magnetisation is read out in full: images come out in hundreds, as scanners have them
FULL_SIGNAL = 1000.0
# Field strength that the user states the SNR for
REFERENCE_FIELD_T = 3.0
# Highest power of the coordinates in a bias field
BIAS_ORDER = 2


def structure_signals(structures: SequenceOf[SimulatedStructure], sequence: Sequence, field_tesla: float) -> Signal:
    """Signal of each structure, intensity units; UHFError where the literature has no values for the field."""
    decay_of = t2_seconds if sequence.decay == "t2" else t2_star_seconds
    density = np.array([PROTON_DENSITY[s.tissue] * s.density_factor for s in structures])
    t1 = np.array([t1_seconds(s.tissue, field_tesla) * s.t1_factor for s in structures])
    decay = np.array([decay_of(s.tissue, field_tesla) * s.decay_factor for s in structures])
    return FULL_SIGNAL * sequence.signal(density, t1, decay)


def synthesise_image(
    anatomy: Anatomy,
    sequence: Sequence,
    field_tesla: float,
    *,
    blur_voxels: SequenceOf[float] = (0.0, 0.0, 0.0),
    bias: FloatArray | None = None,
) -> FloatArray:
    """Noise-free magnitude image, float32, the anatomy's shape, zero outside the brain.

    Args:
        anatomy: structures and where they are.
        sequence: pulse sequence.
        field_tesla: field strength in tesla.
        blur_voxels: sigma of the partial volume effect along each axis: signals, with their sign, mix with those of
            the neighbours before the magnitude is taken. Outside the brain there is no signal.
        bias: factor on the image, same shape.

    Raises:
        UHFError: a field strength without published values.
    """
    table = np.concatenate([[0.0], structure_signals(anatomy.structures, sequence, field_tesla)]).astype(np.float32)
    image = table[anatomy.index]
    if any(blur_voxels):
        image = ndimage.gaussian_filter(image, blur_voxels, mode="constant")
    image = np.abs(image)
    if bias is not None:
        image = image * bias
    image[anatomy.index == 0] = 0
    return image


def bias_field(shape: tuple[int, ...], rng: np.random.Generator, *, strength: float) -> FloatArray:
    """Smooth factor on an image: exp of a random polynomial of second order, whose standard deviation is `strength`.

    Source: ours, the usual form of such fields.
    """
    axes = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in shape), indexing="ij", sparse=True)
    total = np.zeros(shape, np.float32)
    for powers in np.ndindex(*(BIAS_ORDER + 1,) * len(shape)):
        if 0 < sum(powers) <= BIAS_ORDER:
            term: FloatArray = np.float32(rng.standard_normal()) * np.ones((1,) * len(shape), np.float32)
            for axis, power in zip(axes, powers, strict=True):
                term = term * axis**power
            total += term
    return np.exp(np.float32(strength) * (total - total.mean()) / total.std())


def noise_sigma(sequence: Sequence, field_tesla: float, *, snr_at_3t: float) -> float:
    """Noise for published white matter to have this SNR at 3 T; at other fields SNR per signal goes with B0^1.5."""
    white = SimulatedStructure(label=2, tissue="wm", t1_factor=1, decay_factor=1, density_factor=1)
    signal = abs(structure_signals([white], sequence, REFERENCE_FIELD_T)[0])
    return float(signal / snr_at_3t * (REFERENCE_FIELD_T / field_tesla) ** SNR_EXPONENT)


def rician(image: FloatArray, rng: np.random.Generator, *, sigma: float) -> FloatArray:
    """Magnitude of the image with noise of standard deviation `sigma` in both channels; zeros stay zero."""
    noise = [rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma) for _ in range(2)]
    return np.where(image > 0, np.hypot(image + noise[0], noise[1]), np.float32(0))
