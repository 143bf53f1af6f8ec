"""What can be made of four thick slices without a network: splines, the filter of Uni-COAL (E11), the best there is.

3 T scans, thick slices made of them in the axial plane. The bound is the least-squares fit of the four weights to other
subjects' voxels, which needs a truth; no linear filter of these slices is better on them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import nibabel as nib
import numpy as np
import typer
from jobs import Data, Places
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nnunet_uhf.evaluation.image_metrics import linear_fit, psnr
from nnunet_uhf.networks.unicoal.question import SLICES, interpolation_weights
from nnunet_uhf.networks.unicoal.slice_filter import slice_filter
from nnunet_uhf.preprocessing.low_field.slice_profile import fill_slices, profile_weights

Volume = NDArray[np.float32]
KINDS = ((2, 0.25), (4, 0.25), (4, 0.0))
"""Ratios, and shares of the distance that no slice covers."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


def read(path: Path) -> Volume:
    """A volume `(Z, Y, X)`, axial slices first."""
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj, dtype=np.float32).T


def thick(volume: Volume, ratio: int, gap: float) -> Volume:
    """Thick slices of a volume, the first at its first voxel."""
    weights = profile_weights(len(volume), list(range(0, len(volume), ratio)), thickness=ratio * (1 - gap))
    return np.tensordot(weights.astype(np.float32), volume, axes=1)


def neighbours(slices: Volume, voxel: int, ratio: int) -> tuple[Volume, list[bool]]:
    """The four slices around a voxel, and which there are; a missing one is black."""
    first = voxel // ratio - 1
    there = [0 <= first + step < len(slices) for step in range(SLICES)]
    empty = np.zeros_like(slices[0])
    return np.stack([slices[first + step] if yes else empty for step, yes in enumerate(there)]), there


def fitted(scans: list[tuple[Volume, NDArray[np.bool_]]], ratio: int, gap: float) -> list[NDArray[np.float64]]:
    """The best weights at every place between two slices, by the brains of some subjects."""
    found = []
    for offset in range(ratio):
        columns, truth = [], []
        for volume, brain in scans:
            slices = thick(volume, ratio, gap)
            for voxel in range(ratio + offset, (len(slices) - 2) * ratio, ratio):
                columns.append(neighbours(slices, voxel, ratio)[0][:, brain[voxel]].T)
                truth.append(volume[voxel][brain[voxel]])
        found.append(np.linalg.lstsq(np.concatenate(columns), np.concatenate(truth), rcond=None)[0])
    return found


def images(volume: Volume, ratio: int, gap: float, best: list[NDArray[np.float64]]) -> dict[str, Volume]:
    """What each way makes of a subject's thick slices, up to the last of them."""
    slices = thick(volume, ratio, gap)
    made: dict[str, list[Volume]] = {"Catmull-Rom": [], "filter": [], "bound": []}
    for voxel in range((len(slices) - 1) * ratio + 1):
        around, there = neighbours(slices, voxel, ratio)
        delta = voxel % ratio / ratio
        lengths = {"distance_mm": float(ratio), "thickness_mm": ratio * (1 - gap), "spacing_mm": 1.0}
        spline = interpolation_weights(delta, there)
        ways = {
            "Catmull-Rom": spline,
            "filter": slice_filter(delta, there, **lengths),
            "bound": best[voxel % ratio] if all(there) else spline,
        }
        for name, weights in ways.items():
            made[name].append(np.tensordot(np.asarray(weights, dtype=np.float32), around, axes=1))
    cubic = fill_slices(slices, ratio=ratio, size=len(volume), axis=0)
    return {"cubic": cubic, **{name: np.stack(part) for name, part in made.items()}}


@app.command()
def main(
    data: Data,
    training: Annotated[int, typer.Option(help="Subjects that the bound is fitted to.")] = 8,
    held_out: Annotated[int, typer.Option(help="Other subjects, to measure on, behind the 24 of unicoal.py.")] = 4,
) -> None:
    """Print how near each way comes to the truth in the brain.

    Example: python benchmarks/slice_filter.py --data ../shared/data/ixi_hh_2mm
    """
    places = Places(data.resolve(), Path())
    cases, _, others = places.groups(training, 24 - training, held_out)

    def scans_of(names: list[str]) -> list[tuple[Volume, NDArray[np.bool_]]]:
        scans, labels = places.of("images", names), places.of("labels_tissue", names)
        return [(read(scans[name]), read(labels[name]) > 0) for name in names]

    learnt, judged = scans_of(cases), scans_of(others)
    shown = Table(title=f"PSNR in the brain, dB, {held_out} held-out subjects: mean (range of the gain over cubic)")
    ways = ("cubic", "Catmull-Rom", "filter", "bound")
    for heading in ("", *ways):
        shown.add_column(heading)
    for ratio, gap in KINDS:
        best, rows = fitted(learnt, ratio, gap), []
        for volume, brain in judged:
            made = images(volume, ratio, gap, best)
            kept = len(made["filter"])
            truth, inside = volume[:kept], brain[:kept]
            rows.append([psnr(truth, linear_fit(truth, made[name][:kept], inside), mask=inside) for name in ways])
        values = np.array(rows)
        gains = values - values[:, :1]
        cells = [
            f"{values[:, n].mean():.2f}" + (f" ({gains[:, n].min():+.2f} to {gains[:, n].max():+.2f})" if n else "")
            for n in range(len(ways))
        ]
        shown.add_row(f"r = {ratio}, gap {gap:g}", *cells)
    console.print(shown)


if __name__ == "__main__":
    app()
