"""How well two scans on one grid lie on each other, and which pairs a person should look at."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_uhf.preprocessing.pairing.foreground import foreground, foreground_within, outline
from nnunet_uhf.preprocessing.pairing.registration import Motion
from nnunet_uhf.types import FloatArray, Mask

BINS = 48
#: A pair is flagged beyond these, whatever the other pairs are like.
MOST_OUTLINE_MM = 3.0
MOST_ROTATION_DEG = 30.0
LARGEST_STRETCH = 1.15
LEAST_COVERED = 0.98
#: Differences of normalised mutual information below this say nothing: interpolation alone makes them.
SAME_NMI = 0.002
#: A pair is an outlier at this many robust standard deviations (median absolute deviation), among at least 5 pairs.
OUTLIER, FEWEST_FOR_OUTLIERS = 3.5, 5


@dataclass
class Alignment:
    """Residual misalignment of one pair.

    Attributes:
        outline_mm: mean distance between the outlines of head or brain, both ways.
        outline_p95_mm: its 95th percentile.
        nmi_before: normalised mutual information (1 none, 2 identical) where the headers put the scans.
        nmi_after: the same after registration.
        covered: part of the foreground of the reference scan that the other scan's field of view reaches.
        rotation_deg: largest rotation found (over the slices, when slicewise).
        shift_mm: largest shift found; far-apart origins of two scanners are in it.
        stretch: largest stretch or squeeze found, >= 1; 1 in rigid registration.
        reasons: why a person should look at the pair; empty when nothing is conspicuous.
    """

    outline_mm: float
    outline_p95_mm: float
    nmi_before: float
    nmi_after: float
    covered: float
    rotation_deg: float
    shift_mm: float
    stretch: float
    reasons: list[str] = field(default_factory=list)


def measure_alignment(
    reference: FloatArray, moved: FloatArray, before: FloatArray, *, reach: Mask, spacing: Any, motions: list[Motion]
) -> Alignment:
    """Measure a pair.

    Args:
        reference: scan whose grid it is, (i, j, k).
        moved: the other scan after registration, on that grid.
        before: the other scan where its header puts it, on that grid.
        reach: voxels that the field of view of the other scan reaches after registration.
        spacing: voxel size in mm.
        motions: what the transforms do.
    """
    still = foreground(reference)
    mean, p95 = outline_distance(still, foreground_within(moved, reach), reach=reach, spacing=spacing)
    stretches = [max(*motion.scales, 1 / min(motion.scales)) for motion in motions]
    found = Alignment(
        outline_mm=mean,
        outline_p95_mm=p95,
        nmi_before=normalised_mutual_information(reference, before),
        nmi_after=normalised_mutual_information(reference, moved),
        covered=float(reach[still].mean()) if still.any() else 0.0,
        rotation_deg=max(motion.rotation_deg for motion in motions),
        shift_mm=max(motion.shift_mm for motion in motions),
        stretch=max(stretches),
    )
    found.reasons = _conspicuous(found)
    return found


def normalised_mutual_information(first: FloatArray, second: FloatArray) -> float:
    """(H(A) + H(B)) / H(A, B): 1 for unrelated images, 2 for a one-to-one relation (Studholme 1999)."""
    counts = np.histogram2d(_clipped(first), _clipped(second), bins=BINS)[0]
    joint = _entropy(counts)
    return 1.0 if joint == 0 else (_entropy(counts.sum(axis=1)) + _entropy(counts.sum(axis=0))) / joint


def outline_distance(first: Mask, second: Mask, *, reach: Mask, spacing: Any) -> tuple[float, float]:
    """Mean and 95th percentile in mm of the distance from each outline to the other, both ways.

    Where the field of view ends there is no outline. Infinite when one of them is empty.
    """
    inside = ndimage.binary_erosion(reach, iterations=2, border_value=1)
    edges = [outline(first) & inside, outline(second) & inside]
    if not all(edge.any() for edge in edges):
        return float("inf"), float("inf")
    box = ndimage.find_objects((edges[0] | edges[1]).astype(np.uint8))[0]  # the distances beyond are not needed
    near, far = edges[0][box], edges[1][box]
    # slices matched by eye make no volume: in stacks of few, the nearest outline is one in the same slice
    sampling = [size if length > 8 else 1e6 for size, length in zip(spacing, first.shape, strict=True)]
    distances = np.concatenate(
        [ndimage.distance_transform_edt(~a, sampling=sampling)[b] for a, b in ((near, far), (far, near))]
    )
    distances = np.minimum(distances, 1e3)  # a slice without an outline of the other
    return float(distances.mean()), float(np.percentile(distances, 95))


def flag_outliers(pairs: Mapping[str, Alignment]) -> None:
    """Add a reason to every pair that is worse than the others by a robust measure; needs at least 5 pairs."""
    if len(pairs) < FEWEST_FOR_OUTLIERS:
        return
    for name, sign in (("outline_mm", 1.0), ("nmi_after", -1.0)):
        values = sign * np.array([getattr(pair, name) for pair in pairs.values()])
        middle = np.median(values)
        deviation = 1.4826 * np.median(np.abs(values - middle))
        # pairs that hardly differ are no outliers of each other
        deviation = max(deviation, 0.05 * abs(middle) if name == "outline_mm" else SAME_NMI)
        for pair, value in zip(pairs.values(), values, strict=True):
            if value - middle > OUTLIER * deviation:
                pair.reasons.append(f"{name} is far from the other pairs'")


def _conspicuous(pair: Alignment) -> list[str]:
    """Reasons that need no other pair."""
    reasons = []
    if pair.outline_mm > MOST_OUTLINE_MM:
        reasons.append(f"outlines {pair.outline_mm:.1f} mm apart")
    if pair.nmi_before - pair.nmi_after > SAME_NMI:
        reasons.append("less mutual information than before registration")
    if pair.rotation_deg > MOST_ROTATION_DEG:
        reasons.append(f"turned by {pair.rotation_deg:.0f} degrees")
    if pair.stretch > LARGEST_STRETCH:
        reasons.append(f"stretched by {pair.stretch:.2f}: are the voxel sizes right?")
    if pair.covered < LEAST_COVERED:
        reasons.append(f"only {100 * pair.covered:.0f} % of the reference is covered")
    return reasons


def _clipped(values: FloatArray) -> npt.NDArray[np.float64]:
    """Flat, the brightest 0.5 % cut, so that a few voxels do not use up the bins."""
    flat = values.ravel().astype(np.float64)
    return np.clip(flat, None, np.percentile(flat, 99.5))


def _entropy(counts: npt.NDArray[Any]) -> float:
    """Shannon entropy in nats."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def alignment_table(report: Mapping[str, Alignment]) -> str:
    """The report as CSV, one line a case, the worst outline first."""
    text = io.StringIO()
    columns = [name for name in Alignment.__dataclass_fields__ if name != "reasons"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *columns, "flagged", "reasons"])
    for case, found in sorted(report.items(), key=lambda item: -item[1].outline_mm):
        numbers = [f"{getattr(found, name):.4g}" for name in columns]
        writer.writerow([case, *numbers, "yes" if found.reasons else "no", "; ".join(found.reasons)])
    return text.getvalue()
