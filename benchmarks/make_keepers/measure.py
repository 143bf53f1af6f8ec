"""What a made keeper is worth on real scans: its image, and what its frozen maps tell of structures by a linear rule.

Scans: held-out subjects of ixi_hh_2mm (3 T), and low field simulated of them. The keeper is one of 1 mm: 2 mm scans are
interpolated to 1 mm (cubic), in 2D slices of the first axis, in 3D the box of the brain; its image is averaged back to
2 mm. Judged are the same slices in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor
from torch.nn import functional as F

from nnunet_uhf.evaluation.image_metrics import fitted_quality
from nnunet_uhf.networks.contract import EnhancementNet, Keeper
from nnunet_uhf.preprocessing.low_field.arrays import simulate_low_field

TEST, LABELLED = 8, 5
"""Subjects that are judged, and those whose labels the linear rule sees: the last of the data, and those before."""
FEWEST_VOXELS = 500  # of the brain in a slice
VOXELS = 1500  # of each labelled subject and structure at most, of the linear rule
EVERY = 3  # slices
LAST_PAIR, MIDDLE = 18, (19, 20, 21)
"""Of ixi_hh_2mm's structures: sides follow each other but for third and fourth ventricle and brain stem."""
SHRINKAGE = 1e-3
DIVISOR = 16  # voxels of 2 mm in one of the coarsest map


@dataclass(frozen=True)
class Subject:
    """A scan at 2 mm: volume `(Z, Y, X)`, and of the chosen slices truth, structures and tissues `(N, Y, X)`."""

    volume: npt.NDArray[np.float32]
    chosen: list[int]
    truth: npt.NDArray[np.float32]
    regions: npt.NDArray[np.uint8]
    tissues: npt.NDArray[np.uint8]

    @property
    def source(self) -> npt.NDArray[np.float32]:
        """The chosen slices `(N, Y, X)`."""
        return self.volume[self.chosen]

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Where the chosen slices have a label."""
        return (self.regions > 0) | (self.tissues > 0)


Maps = Callable[[Subject], npt.NDArray[np.float32]]
"""Features `(N, Y, X, C)` of the voxels of the chosen slices."""


def subjects(data: Path, *, ratio: int | None) -> list[Subject]:
    """Labelled ones first, then those that are judged. `ratio`: of simulated slices; None: the 3 T scan itself."""
    cases = sorted(path.name for path in (data / "images").glob("*.nii.gz"))[-(TEST + LABELLED) :]
    found = []
    for number, case in enumerate(cases):
        image, tissues, regions = (
            np.asarray(nibabel.load(data / folder / case).dataobj).T  # (Z, Y, X) as nnU-Net reads it
            for folder in ("images", "labels_tissue", "labels_region")
        )
        source = image.astype(np.float32)
        if ratio is not None:
            source = simulate_low_field(image, tissues, ratio=ratio, axis=1, noise_scale=2.0, seed=number)
        chosen = [z for z in range(0, len(image), EVERY) if np.count_nonzero(image[z]) >= FEWEST_VOXELS]
        inside = image > 0
        normalised = np.where(inside, (source - source[inside].mean()) / source[inside].std(), 0)
        found.append(
            Subject(
                normalised.astype(np.float32),
                chosen,
                image[chosen].astype(np.float32),
                merged(regions[chosen]),
                tissues[chosen].astype(np.uint8),
            )
        )
    return found


def merged(regions: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Numbers of ixi_hh_2mm's structures without sides, of which maps know nothing."""
    table = np.array([0, *(each - (each + (each <= LAST_PAIR)) % 2 for each in range(1, 28))], np.uint8)
    table[list(MIDDLE)] = MIDDLE
    return table[regions]


def fine(image: npt.NDArray[np.float32], factors: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """A volume at 1 mm along the axes whose factor is 2."""
    inside = ndimage.zoom(image != 0, factors, order=0)
    finer = ndimage.zoom(image, factors, order=3, grid_mode=True, mode="nearest")
    return np.where(inside, finer, 0).astype(np.float32)


def passes(dim: int, subject: Subject) -> Iterator[tuple[Tensor, tuple[slice, ...], list[int] | slice]]:
    """What a network is given: the image `(1, 1, *S)` at 1 mm, where it lies in the slices, which of them it has.

    Every chosen slice by itself in 2D; in 3D the box of the brain, of which slices are then chosen. The box ends in
    zeros, so that maps of every stride cover all of it.
    """
    if dim == 2:
        for number, one in enumerate(fine(subject.source, (1, 2, 2))):
            yield torch.from_numpy(one)[None, None], (slice(number, number + 1),), slice(None)
    else:
        box = ndimage.find_objects((subject.volume != 0).astype(np.uint8))[0]
        there = [z for z in subject.chosen if box[0].start <= z < box[0].stop]
        first = subject.chosen.index(there[0])
        padded = np.pad(subject.volume[box], [(0, -(part.stop - part.start) % DIVISOR) for part in box])
        whole = torch.from_numpy(fine(padded, (2, 2, 2)))[None, None]
        yield whole, (slice(first, first + len(there)), *box[1:]), [z - box[0].start for z in there]


@torch.no_grad()
def images_of(network: EnhancementNet, subject: Subject) -> npt.NDArray[np.float32]:
    """Its images of the chosen slices at 2 mm."""
    dim = network.keeper.dim
    found = np.zeros_like(subject.source)
    for given, place, slices in passes(dim, subject):
        made = network(given)[0, 0].numpy()
        coarse = ndimage.zoom(made, 0.5, order=1, grid_mode=True, mode="nearest")
        coarse = coarse[None] if dim == 2 else coarse[slices]
        found[place] = within(coarse, found[place].shape)
    return found


def within(values: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The first voxels along every axis, without what was padded."""
    return values[tuple(slice(size) for size in shape)]


def maps_of(keeper: Keeper) -> Maps:
    """All maps at 2 mm as features of a voxel."""
    mode = "bilinear" if keeper.dim == 2 else "trilinear"

    @torch.no_grad()
    def maps(subject: Subject) -> npt.NDArray[np.float32]:
        found = np.zeros((*subject.source.shape, sum(keeper.channels)), np.float32)
        for given, place, slices in passes(keeper.dim, subject):
            size, first = [n // 2 for n in given.shape[2:]], 0
            for level in keeper.features(given):
                fitted = F.interpolate(level, size=size, mode=mode, align_corners=False)[0].numpy()
                values = fitted[:, None] if keeper.dim == 2 else fitted[:, slices]
                part = found[(*place, ..., slice(first, first + len(values)))]
                part[...] = within(np.moveaxis(values, 0, -1), part.shape)
                first += len(values)
        return found

    return maps


def intensities(subject: Subject) -> npt.NDArray[np.float32]:
    """The image itself as the one feature of a voxel."""
    return subject.source[..., None]


def surroundings(subject: Subject) -> npt.NDArray[np.float32]:
    """The image, and blurred in its slices at the scales of five maps."""
    blurred = [ndimage.gaussian_filter(subject.source, (0, sigma, sigma)) for sigma in (0.5, 1, 2, 4, 8)]
    return np.stack([subject.source, *blurred], axis=-1)


def linear_probes(features: Maps, found: Sequence[Subject]) -> dict[str, list[float]]:
    """Mean Dice over structures and over tissues of each judged subject, by linear discriminants of the labelled."""
    made = [features(subject)[subject.labelled] for subject in found]
    return {
        which: linear_probe(made, [getattr(subject, which)[subject.labelled] for subject in found])
        for which in ("regions", "tissues")
    }


def linear_probe(features: Sequence[npt.NDArray[np.float32]], labels: Sequence[npt.NDArray[np.uint8]]) -> list[float]:
    """Mean Dice of each judged subject; features `(V, C)` and labels `(V,)` of all, the labelled subjects first."""
    rng = np.random.default_rng(0)
    seen, wanted = [], []
    for maps, truth in zip(features[:LABELLED], labels, strict=False):
        for label in np.unique(truth[truth > 0]):
            places = np.flatnonzero(truth == label)
            places = places[rng.permutation(len(places))[:VOXELS]]
            seen.append(maps[places])
            wanted.append(np.full(len(places), label))
    rule = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE)
    rule.fit(np.concatenate(seen), np.concatenate(wanted))
    scores = []
    for maps, every in zip(features[LABELLED:], labels[LABELLED:], strict=True):
        truth = every[every > 0]
        predicted = rule.predict(maps[every > 0])
        dice = [
            2 * np.count_nonzero((predicted == label) & (truth == label))
            / (np.count_nonzero(predicted == label) + np.count_nonzero(truth == label))
            for label in np.unique(truth)
        ]  # fmt: skip
        scores.append(float(np.mean(dice)))
    return scores


def image_gains(network: EnhancementNet, found: Sequence[Subject]) -> dict[str, list[float]]:
    """PSNR and SSIM in the brain, image and input, both fitted to the 3 T scan, of each judged subject."""
    rows: dict[str, list[float]] = {}
    for subject in found[LABELLED:]:
        brain = subject.truth > 0
        for name, image in (("keeper", images_of(network, subject)), ("input", subject.source)):
            quality = fitted_quality(subject.truth, image, brain)
            for key in ("psnr_brain", "ssim_brain"):
                rows.setdefault(f"{name}_{key}", []).append(quality[key])
    return rows


def measure(networks: dict[str, EnhancementNet], data: Path) -> dict[str, Any]:
    """All numbers: of the 3 T scan and of simulated low field; `networks` by name, with a random one among them."""
    result: dict[str, Any] = {}
    for scans, ratio in (("3 T", None), ("simulated low field", 2)):
        found = subjects(data, ratio=ratio)
        rows: dict[str, dict[str, Any]] = {}
        features: dict[str, Maps] = {"intensity": intensities, "intensity and surroundings": surroundings}
        features |= {name: maps_of(network.keeper) for name, network in networks.items()}
        for name, maps in features.items():
            rows[name] = dict(linear_probes(maps, found))
            if ratio is not None and name in networks:
                rows[name]["image"] = image_gains(networks[name], found)
            told = {**rows[name], **rows[name].get("image", {})}
            told = {key: np.mean(values) for key, values in told.items() if key != "image"}
            print(scans, name, {key: round(float(value), 4) for key, value in told.items()}, flush=True)
        result[scans] = rows
    return result
