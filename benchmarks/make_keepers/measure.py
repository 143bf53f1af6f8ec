"""What a made keeper is worth on real scans: its image, and what its frozen maps tell of structures by a linear rule.

Scans: held-out subjects of ixi_hh_2mm (3 T), and low field simulated of them. The keeper is one of 1 mm: slices of the
first axis of 2 mm scans are interpolated to 1 mm (cubic), its image is averaged back to 2 mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

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
Maps = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Subject:
    """Slices at 2 mm: image and truth `(N, Y, X)`, labels of structures and tissues."""

    source: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]
    regions: npt.NDArray[np.uint8]
    tissues: npt.NDArray[np.uint8]


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
                normalised[chosen].astype(np.float32),
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


def fine(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Slices at 1 mm."""
    inside = ndimage.zoom(image != 0, (1, 2, 2), order=0)
    finer = ndimage.zoom(image, (1, 2, 2), order=3, grid_mode=True, mode="nearest")
    return np.where(inside, finer, 0).astype(np.float32)


@torch.no_grad()
def images_of(network: EnhancementNet, source: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Its images of slices at 2 mm."""
    made = [network(torch.from_numpy(one)[None, None])[0, 0].numpy() for one in fine(source)]
    return ndimage.zoom(np.stack(made), (1, 0.5, 0.5), order=1, grid_mode=True, mode="nearest").astype(np.float32)


def maps_of(keeper: Keeper) -> Maps:
    """All maps at 2 mm as features of a voxel `(N, Y, X, C)`."""

    @torch.no_grad()
    def maps(source: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        slices = []
        for one, coarse in zip(fine(source), source, strict=True):
            found = keeper.features(torch.from_numpy(one)[None, None])
            slices.append(
                np.concatenate(
                    [
                        torch.nn.functional.interpolate(level, size=coarse.shape, mode="bilinear", align_corners=False)[
                            0
                        ].numpy()
                        for level in found
                    ]
                ).transpose(1, 2, 0)
            )
        return np.stack(slices)

    return maps


def intensities(source: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The image itself as the one feature of a voxel."""
    return source[..., None]


def surroundings(source: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The image, and blurred at the scales of five maps."""
    blurred = [ndimage.gaussian_filter(source, (0, sigma, sigma)) for sigma in (0.5, 1, 2, 4, 8)]
    return np.stack([source, *blurred], axis=-1)


def linear_probe(features: Maps, found: Sequence[Subject], which: str) -> list[float]:
    """Mean Dice over structures or tissues of each judged subject, by linear discriminants of the labelled ones."""
    rng = np.random.default_rng(0)
    seen, wanted = [], []
    for subject in found[:LABELLED]:
        maps, labels = features(subject.source), getattr(subject, which)
        for label in np.unique(labels[labels > 0]):
            places = np.argwhere(labels == label)
            places = places[rng.permutation(len(places))[:VOXELS]]
            seen.append(maps[tuple(places.T)])
            wanted.append(np.full(len(places), label))
    rule = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-3)
    rule.fit(np.concatenate(seen), np.concatenate(wanted))
    scores = []
    for subject in found[LABELLED:]:
        labels = getattr(subject, which)
        inside = labels > 0
        predicted = rule.predict(features(subject.source)[inside])
        truth = labels[inside]
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
        for name, image in (("keeper", images_of(network, subject.source)), ("input", subject.source)):
            quality = fitted_quality(subject.truth, image, brain)
            for key in ("psnr_brain", "ssim_brain"):
                rows.setdefault(f"{name}_{key}", []).append(quality[key])
    return rows


def measure(networks: dict[str, EnhancementNet], data: Path) -> dict[str, Any]:
    """All numbers: of the 3 T scan and of simulated low field; `networks` by name, with a random one among them."""
    result: dict[str, Any] = {}
    for scans, ratio in (("3 T", None), ("simulated low field", 2)):
        found = subjects(data, ratio=ratio)
        rows: dict[str, Any] = {}
        features: dict[str, Maps] = {"intensity": intensities, "intensity and surroundings": surroundings}
        features |= {name: maps_of(network.keeper) for name, network in networks.items()}
        for name, maps in features.items():
            rows[name] = {which: linear_probe(maps, found, which) for which in ("regions", "tissues")}
            if ratio is not None and name in networks:
                rows[name]["image"] = image_gains(networks[name], found)
            told = {**rows[name], **rows[name].get("image", {})}
            told = {key: np.mean(values) for key, values in told.items() if key != "image"}
            print(scans, name, {key: round(float(value), 4) for key, value in told.items()}, flush=True)
        result[scans] = rows
    return result
