"""Rigid and affine registration of two scans of one subject (SimpleITK, Mattes mutual information)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from skimage.filters import threshold_otsu

from nnunet_uhf.errors import UHFError

MotionKind = Literal["none", "rigid", "affine"]
#: Resolution in mm of each stage, coarse to fine; no stage is finer than the scan.
LEVELS_MM = (6.0, 3.0, 1.5)
#: Samples of the metric at each stage: enough for 32 x 32 bins, and time does not grow with the scan.
SAMPLES = 60_000
BINS = 32
ITERATIONS = 120
#: An axis shorter than this cannot be registered in 3D.
FEWEST_SLICES = 6
START_ANGLE_DEG = 20.0


@dataclass(frozen=True)
class Motion:
    """What a transform does, seen from the centre of the fixed scan.

    Attributes:
        rotation_deg: angle of the rotation that is nearest to the matrix.
        translation_mm: where the centre goes, less the centre, in ITK's left, posterior, superior (2D: in the slice).
        scales: principal stretches; all 1 in a rigid transform.
    """

    rotation_deg: float
    translation_mm: tuple[float, ...]
    scales: tuple[float, ...]

    @property
    def shift_mm(self) -> float:
        """Length of the translation."""
        return float(np.linalg.norm(self.translation_mm))


def register(fixed: Any, moving: Any, *, kind: MotionKind, seed: int = 0) -> Any:
    """Find the transform from points of `fixed` to points of `moving`.

    Starts from the better (by mutual information) of the headers' own geometry and of coinciding centres of mass of
    the foreground, upright or turned by 20 degrees about one axis; then three resolutions. One thread and a fixed
    seed: the same scans give the same transform to about a thousandth of a millimetre.

    Args:
        fixed: SimpleITK image, 2D or 3D, float.
        moving: another of the same dimension.
        kind: `rigid`, `affine` (a rigid stage, then all freedoms), or `none` (the identity).
        seed: of the voxels the metric looks at.

    Returns:
        SimpleITK affine transform.

    Raises:
        UHFError: too few slices, or the scans cannot be brought to overlap. Without file names: the caller adds them.
    """
    dimension = fixed.GetDimension()
    if kind == "none":
        return sitk.AffineTransform(dimension)
    for image in (fixed, moving):
        if min(image.GetSize()) < FEWEST_SLICES:
            raise UHFError(f"only {min(image.GetSize())} slices, too few for 3D registration: use --slicewise")
    pair = [(_shrunk(fixed, level), _shrunk(moving, level)) for level in LEVELS_MM]
    try:
        transform = _best_start(*pair[0], centre(fixed), centre(moving), seed)
        for level, (still, moved) in zip(LEVELS_MM, pair, strict=True):
            transform = _optimise(still, moved, transform, level=level, seed=seed)
        if kind == "affine":
            transform = _as_affine(transform)
            for level, (still, moved) in list(zip(LEVELS_MM, pair, strict=True))[1:]:
                transform = _optimise(still, moved, transform, level=level, seed=seed)
    except RuntimeError as error:  # ITK: no overlap, or no sample inside the moving image
        raise UHFError("registration finds no overlap: check both scans and their geometry") from error
    return _as_affine(transform)


def motion(transform: Any, point: Sequence[float]) -> Motion:
    """Rotation, shift and scale of an affine transform at `point` (ITK world, mm)."""
    dimension = transform.GetDimension()
    matrix = np.asarray(transform.GetMatrix()).reshape(dimension, dimension)
    left, scales, right = np.linalg.svd(matrix)
    rotation = left @ right
    cosine = rotation[0, 0] if dimension == 2 else (np.trace(rotation) - 1) / 2
    shift = np.subtract(transform.TransformPoint([float(x) for x in point]), point)
    return Motion(
        rotation_deg=float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
        translation_mm=tuple(float(value) for value in shift),
        scales=tuple(float(scale) for scale in scales),
    )


def centre(image: Any) -> tuple[float, ...]:
    """Centre of mass of the foreground (above Otsu's threshold), in world mm."""
    values = sitk.GetArrayViewFromImage(image)
    index = np.argwhere(values > threshold_otsu(values.ravel())).mean(axis=0)[::-1]
    return tuple(image.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def _shrunk(image: Any, level: float) -> Any:
    """Smoothed and subsampled to about `level` mm, along axes that are finer; brightest and darkest 0.5 % clipped."""
    values = sitk.GetArrayViewFromImage(image)
    low, high = np.percentile(values[:: max(1, values.shape[0] // 64)], [0.5, 99.5])
    clipped = sitk.Clamp(image, sitk.sitkFloat32, float(low), float(high)) if high > low else image
    factors = [
        int(np.clip(round(level / spacing), 1, max(1, size // 8)))
        for spacing, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    variance = [
        (0.4 * factor * spacing) ** 2 if factor > 1 else 0.0
        for factor, spacing in zip(factors, image.GetSpacing(), strict=True)
    ]
    return sitk.Shrink(sitk.DiscreteGaussian(clipped, variance, 32, 0.01, True), factors)


def _method(fixed: Any, seed: int) -> Any:
    """Mattes mutual information on a fixed random sample of voxels."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    share = min(1.0, SAMPLES / fixed.GetNumberOfPixels())
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, seed=seed + 1)  # 0 would be the clock
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _best_start(
    fixed: Any, moving: Any, fixed_centre: Sequence[float], moving_centre: Sequence[float], seed: int
) -> Any:
    """The start with the highest mutual information."""
    starts = [_rigid(fixed_centre, np.subtract(moving_centre, fixed_centre))]
    starts.append(_rigid(fixed_centre, np.zeros(len(fixed_centre))))
    turns = 1 if fixed.GetDimension() == 2 else 3
    for axis in range(turns):
        for angle in (-START_ANGLE_DEG, START_ANGLE_DEG):
            angles = np.zeros(turns)
            angles[axis] = np.radians(angle)
            starts.append(_rigid(fixed_centre, np.subtract(moving_centre, fixed_centre), angles))
    values = []
    for start in starts:
        method = _method(fixed, seed)
        method.SetInitialTransform(start)
        try:
            values.append(method.MetricEvaluate(fixed, moving))
        except RuntimeError:  # this start has no overlap
            values.append(np.inf)
    return starts[int(np.argmin(values))]


def _rigid(middle: Sequence[float], shift: npt.NDArray[Any], angles: npt.NDArray[Any] | None = None) -> Any:
    """A rigid transform about `middle`."""
    transform = sitk.Euler2DTransform() if len(middle) == 2 else sitk.Euler3DTransform()
    transform.SetCenter([float(x) for x in middle])
    transform.SetTranslation([float(x) for x in shift])
    if angles is not None:
        turns = [float(angle) for angle in angles]
        transform.SetAngle(*turns) if len(middle) == 2 else transform.SetRotation(*turns)
    return transform


def _optimise(fixed: Any, moving: Any, start: Any, *, level: float, seed: int) -> Any:
    """One resolution; steps are measured in mm of physical shift."""
    method = _method(fixed, seed)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=level / 10,  # larger steps throw an affine matrix far off
        minStep=level / 300,
        numberOfIterations=ITERATIONS,
        relaxationFactor=0.8,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    return found.GetNthTransform(0) if isinstance(found, sitk.CompositeTransform) else found


def _as_affine(transform: Any) -> Any:
    """The same mapping with all freedoms of a matrix."""
    affine = sitk.AffineTransform(transform.GetDimension())
    affine.SetCenter(transform.GetCenter())
    affine.SetMatrix(transform.GetMatrix())
    affine.SetTranslation(transform.GetTranslation())
    return affine
