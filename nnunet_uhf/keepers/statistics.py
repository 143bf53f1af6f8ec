"""What a keeper's features look like on the images it was trained for, and how far another image is from that (ours).

An image is summed up by the spatial mean of every channel of every level, as the paper's losses sum up features by
channel. The distance of an image at a level is the root mean square over the channels of its z-scores. The shrinkage of
the variances keeps a channel that hardly varied between a few cases from deciding alone. Channels vary together, so
distances are not chi-distributed: what is usual is read off cases that the statistics have not seen.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from numpy.typing import NDArray
from torch import Tensor

from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.networks.kinds import KINDS

Means = list[NDArray[np.float64]]
"""Of one image: per level, finest first, the spatial mean of every channel `(C_l,)`."""
Features = Callable[[Tensor], Sequence[Tensor]]
"""A keeper: `(1, C, *P) -> maps (1, C_l, *S_l)`, finest first."""
Familiarity = Literal["within", "beyond", "far beyond"]

#: Standard deviations from the centre that hold the middle half of an evenly filled axis: sqrt(12) / 4.
MIDDLE_HALF = 12**0.5 / 4
#: Slices of a 2D keeper, and patches along an axis of a 3D one, at most.
MOST_SLICES, MOST_PATCHES = 16, 4
#: Part of a channel's variance that is replaced by the mean of its level (ours; 0 to 0.3 made little difference).
SHRINKAGE = 0.1
SMALLEST_VARIANCE = 1e-12
#: Of the training cases: leaving one out must leave two.
FEWEST_CASES = 3
#: As many held-out cases hold a 95th percentile inside their range; fewer are joined by left-out training cases.
ENOUGH_HELD_OUT = 20
#: Significant digits that are kept: headers travel in plans.json.
DIGITS = 5


def features_of(keeper: Keeper) -> Features:
    """The maps of a keeper, or of the keeper within an enhancer; of an ensemble of masks, those of its first member."""
    if keeper.masks is None:
        return keeper.features
    return functools.partial(cast(Any, keeper).features, mask=0)


def source_patch(header: KeeperHeader) -> list[int]:
    """The patch that the keeper is given: that of the header, of a model of thick slices with fewer of them."""
    patch = list(header.patch_size)
    slices = KINDS[header.network].thick_slices(header.architecture)
    if slices is not None:
        axis, ratio = slices
        patch[axis] //= ratio
    return patch


def central_patches(image: NDArray[np.float32], patch_size: Sequence[int]) -> list[tuple[slice, slice, slice]]:
    """Where the keeper looks: patches over the middle half of the head, along every axis of a volume `(Z, Y, X)`.

    The head is where voxels are brighter than the mean. Its middle is brain whatever the field of view, in scans with
    and without skull, while the margins hold more or less air and neck, which would decide the means of a whole volume.
    A 2D patch is a slice of the first axis; one that is larger than the volume starts at 0 and leaves it.

    Raises:
        ValueError: an image without contrast.
    """
    sizes = [1] * (3 - len(patch_size)) + [int(n) for n in patch_size]
    bright = image > image.mean()
    if not bright.any():
        raise ValueError("an image without contrast")
    starts: list[list[int]] = []
    for axis, size in enumerate(sizes):
        profile = bright.sum(axis=tuple(other for other in range(3) if other != axis)).astype(np.float64)
        weights = profile / profile.sum()
        position = np.arange(len(weights)) + 0.5
        centre = float((weights * position).sum())
        reach = MIDDLE_HALF * float(np.sqrt((weights * (position - centre) ** 2).sum()))
        most = MOST_SLICES if axis == 0 and len(patch_size) == 2 else MOST_PATCHES
        count = int(np.clip(np.ceil(2 * reach / size), 1, most))
        middles = centre + reach * ((2 * np.arange(count) + 1) / count - 1)
        last = max(0, image.shape[axis] - size)
        starts.append(sorted({int(np.clip(round(middle - size / 2), 0, last)) for middle in middles}))
    return [
        tuple(slice(start, start + size) for start, size in zip(corner, sizes, strict=True))  # type: ignore[misc]
        for corner in itertools.product(*starts)
    ]


@torch.no_grad()
def channel_means(
    features: Features,
    image: NDArray[np.float32],
    patch_size: Sequence[int],
    *,
    device: torch.device | str = "cpu",
) -> Means:
    """Run a keeper over the central patches of an image and average its maps over voxels and patches.

    Args:
        features: the keeper.
        image: preprocessed volume `(C, Z, Y, X)` as the keeper sees it; the first channel says where the head is.
        patch_size: of the keeper, two or three axes.
        device: where the keeper is.

    Raises:
        ValueError: an image without contrast.
    """
    sums: Means = []
    places = central_patches(image[0], patch_size)
    for place in places:
        patch = torch.from_numpy(np.ascontiguousarray(image[:, *place], dtype=np.float32))
        patch = patch.reshape(len(patch), *patch.shape[4 - len(patch_size) :])
        # zeros around it as in nnU-Net's sliding window
        padded = pad_nd_image(patch, list(patch_size), "constant", {"value": 0})
        maps = features(padded[None].to(device))
        means = [one[0].flatten(1).double().mean(dim=1).cpu().numpy() for one in maps]
        sums = means if not sums else [total + more for total, more in zip(sums, means, strict=True)]
    return [total / len(places) for total in sums]


def summarise_features(training: Sequence[Means], held_out: Sequence[Means] = ()) -> dict[str, Any]:
    """Statistics of the training cases and the distances of cases they were not taken from, ready for a header.

    Distances are those of the held-out cases. Fewer than 20 are joined by the training cases, each held against the
    statistics of all others: the keeper has seen these, which makes them look a little closer than new ones.

    Returns:
        `{"cases", "levels": [{"mean", "std", "distances"}], "distances"}`; distances are given by mean, std, p95 and
        max, per level, and of the root mean square over the levels.

    Raises:
        ValueError: fewer than 3 training cases, or maps of different channels.
    """
    if len(training) < FEWEST_CASES:
        raise ValueError(f"{len(training)} training cases are too few for statistics")
    levels = [np.stack([case[level] for case in training]) for level in range(len(training[0]))]
    found = [[_distance(case[k], _moments(level)) for k, level in enumerate(levels)] for case in held_out]
    if len(held_out) < ENOUGH_HELD_OUT:
        for left_out in range(len(training)):
            kept = [_moments(np.delete(level, left_out, axis=0)) for level in levels]
            found.append([_distance(level[left_out], one) for level, one in zip(levels, kept, strict=True)])
    distances = np.array(found)
    entries = []
    for index, level in enumerate(levels):
        mean, variance, _ = _moments(level)
        entries.append(
            {
                "mean": _rounded(mean),
                "std": _rounded(np.sqrt(variance)),
                "distances": _describe(distances[:, index]),
            }
        )
    overall = _describe(np.array([overall_distance(row) for row in distances]))
    return {"cases": len(training), "levels": entries, "distances": overall}


def distances_of(means: Means, statistics: Mapping[str, Any]) -> list[float]:
    """The distance of an image at every level, finest first.

    Raises:
        ValueError: statistics of other levels or channels than the image's.
    """
    return [
        _distance(values, (np.array(level["mean"]), np.array(level["std"]) ** 2, statistics["cases"]))
        for values, level in zip(means, statistics["levels"], strict=True)
    ]


def overall_distance(distances: Sequence[float]) -> float:
    """One number for all levels: the root mean square of their distances."""
    return float(np.sqrt(np.mean(np.square(distances))))


def familiarity(distance: float, usual: Mapping[str, float]) -> Familiarity:
    """Hold a distance against those of unseen cases: `beyond` their 95th percentile, or `far beyond`.

    Far is more than twice the percentile and further than every one of those cases.
    """
    if distance <= usual["p95"]:
        return "within"
    return "far beyond" if distance > max(2 * usual["p95"], usual["max"]) else "beyond"


def _moments(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean and variance over cases `(N, C) -> (C,)`, and N."""
    return values.mean(axis=0), values.var(axis=0, ddof=1), len(values)


def _distance(values: NDArray[np.float64], moments: tuple[NDArray[np.float64], NDArray[np.float64], int]) -> float:
    mean, variance, cases = moments
    if values.shape != mean.shape:
        raise ValueError(f"{len(values)} channels, but statistics of {len(mean)}")
    shrunk = (1 - SHRINKAGE) * variance + SHRINKAGE * variance.mean()
    # the mean of n cases is itself off by a variance / n
    expected = np.maximum(shrunk * (1 + 1 / cases), SMALLEST_VARIANCE)
    return float(np.sqrt(np.mean((values - mean) ** 2 / expected)))


def _describe(distances: NDArray[np.float64]) -> dict[str, float]:
    summary = {
        "mean": distances.mean(),
        "std": distances.std(ddof=1),
        "p95": np.percentile(distances, 95),
        "max": distances.max(),
    }
    return {name: _rounded([value])[0] for name, value in summary.items()}


def _rounded(values: Sequence[Any] | NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]
