"""How well the Gaussian mixture finds tissues: Dice of its classes with label maps of the same scans.

python benchmarks/tissue_maps.py --images FOLDER --labels FOLDER [--tissues csf=1,gm=2,wm=3] [--cases N]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.nifti import read_volume, require_same_grid
from nnunet_uhf.preprocessing.low_field import parse_brightness, parse_tissue_labels, tissues_from_labels
from nnunet_uhf.preprocessing.low_field.mixture import tissues_from_mixture
from nnunet_uhf.preprocessing.low_field.tissues import TISSUES


def main() -> None:
    """Measure and print a row per tissue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--tissues", default="csf=1,gm=2,wm=3")
    parser.add_argument("--brightness", default="csf,gm,wm")
    parser.add_argument("--cases", type=int, default=None)
    options = parser.parse_args()
    numbers, brightness = parse_tissue_labels(options.tissues), parse_brightness(options.brightness)
    labels = case_files(options.labels)
    scores, limits, seconds = [], [], []
    for case, path in list(case_files(options.images).items())[: options.cases]:
        require_same_grid(path, labels[case])
        truth = tissues_from_labels(read_volume(labels[case]).data, numbers)
        image = read_volume(path).data
        start = time.perf_counter()
        found = np.stack(tissues_from_mixture(image, brightness=brightness))
        seconds.append(time.perf_counter() - start)
        winner = np.where(found.sum(axis=0) > 0, found.argmax(axis=0), -1)
        scores.append(dice(winner, np.stack(truth)))
        limits.append(dice(best_by_intensity(image, np.stack(truth)), np.stack(truth)))
    values = np.array(scores)
    print(f"{len(values)} cases, {np.median(seconds):.2f} s a case (median)")
    for index, tissue in enumerate(TISSUES):
        column = values[:, index]
        print(
            f"{tissue}: Dice {column.mean():.3f} (standard deviation {column.std(ddof=1):.3f}, "
            f"worst {column.min():.3f}); limit of intensity alone {np.mean([row[index] for row in limits]):.3f}"
        )


def dice(winner: np.ndarray, truth: np.ndarray) -> list[float]:
    """Dice of each tissue; `winner` (*S) is its index or -1, `truth` (3, *S)."""
    pairs = [(winner == index, tissue > 0) for index, tissue in enumerate(truth)]
    return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs]


def best_by_intensity(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The tissue that is most frequent at each voxel's intensity: the most that a classifier by intensity can know."""
    brain = truth.any(axis=0) & (image != 0)
    edges = np.linspace(image[brain].min(), image[brain].max(), 200)
    counts = np.stack([np.histogram(image[brain & (tissue > 0)], edges)[0] for tissue in truth])
    place = (np.digitize(image, edges) - 1).clip(0, len(edges) - 2)
    return np.where(image != 0, counts.argmax(axis=0)[place], -1)


if __name__ == "__main__":
    main()
