"""QC pictures: of a pair, the target's edges and the mask over the images; of a labelled scan, its structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from numpy.typing import NDArray
from skimage.feature import canny
from skimage.segmentation import find_boundaries

from nnunet_uhf.imageio.planes import standard_axes, standard_spacing
from nnunet_uhf.nnunet.labels import Labels, names_of_values
from nnunet_uhf.pages.colours import ORANGE, SKY_BLUE
from nnunet_uhf.preprocessing.qc.layout import Column, Panel, draw_columns
from nnunet_uhf.types import Affine, FloatArray, Spacing

EDGE_SIGMA_MM = 1.5
EDGE_COLOUR, MASK_COLOUR = ORANGE, SKY_BLUE
STRUCTURE_COLOURS = [colormaps["tab20"](k) for k in (*range(0, 20, 2), *range(1, 20, 2))]  # dark ones first
FILLING = 0.5  # opacity
LABELS = "\0labels"  # no channel has this name

Window = tuple[float, float]


@dataclass(frozen=True)
class ShownPair:
    """A case on one grid: volumes (X, Y, Z) with standard axes, and the voxel size along them in mm."""

    source: FloatArray
    target: FloatArray
    mask: NDArray[np.bool_]
    spacing_mm: Spacing


def make_pair(source: FloatArray, target: FloatArray, mask: NDArray[np.bool_], affine: Affine) -> ShownPair:
    """The pair in standard axes; the three volumes (X, Y, Z) lie on one grid with this affine (4, 4)."""
    first, second, inside = (standard_axes(volume, affine)[0] for volume in (source, target, mask))
    return ShownPair(first, second, inside, standard_spacing(affine, source.shape))


def draw_pair(pair: ShownPair, path: Path, *, title: str, source_name: str, target_name: str) -> None:
    """Write the picture of a pair as PNG: source, target, the target's edges on the source, the mask's outline."""
    source, target = (_window(volume, pair.mask) for volume in (pair.source, pair.target))

    def edges(axes: Axes, panel: Panel) -> None:
        _show(axes, panel.planes["source"], source)
        scaled = np.clip((panel.planes["target"] - target[0]) / (target[1] - target[0]), 0, 1)
        found = canny(scaled, sigma=max(1.0, EDGE_SIGMA_MM / panel.pixel_mm), mode="nearest")
        _paint_over(axes, found.astype(np.uint8), [to_rgba(EDGE_COLOUR)])

    def outline(axes: Axes, panel: Panel) -> None:
        _show(axes, panel.planes["target"], target)
        mask = panel.planes["mask"]
        if min(mask.shape) > 1 and 0 < mask.mean() < 1:
            axes.contour(mask, [0.5], colors=MASK_COLOUR, linewidths=1.0)

    draw_columns(
        path,
        title=title,
        volumes={"source": pair.source, "target": pair.target, "mask": pair.mask.astype(np.float32)},
        mask=pair.mask,
        spacing_mm=pair.spacing_mm,
        columns=[
            Column(source_name, lambda axes, panel: _show(axes, panel.planes["source"], source)),
            Column(target_name, lambda axes, panel: _show(axes, panel.planes["target"], target)),
            Column(f"edges of {target_name} on {source_name}", edges),
            Column(f"mask on {target_name}", outline),
        ],
    )


def draw_labelled(
    images: Mapping[str, FloatArray], labels: NDArray[np.int64], spacing_mm: Spacing, path: Path, *, title: str
) -> None:
    """Write the picture of a labelled scan as PNG: every channel, then structures and their outlines on the first.

    Args:
        images: channels (X, Y, Z) by name, with standard axes.
        labels: (X, Y, Z); where there is none, planes go through the centre of the volume.
        spacing_mm: voxel size along the axes.
        path: of the picture.
        title: its first line.
    """
    mask = labels > 0 if (labels > 0).any() else np.ones(labels.shape, dtype=bool)
    windows = {name: _window(image, mask) for name, image in images.items()}
    first = next(iter(images))

    def show(name: str) -> Column:
        return Column(name, lambda axes, panel: _show(axes, panel.planes[name], windows[name]))

    def filled(axes: Axes, panel: Panel) -> None:
        _show(axes, panel.planes[first], windows[first])
        _paint_over(axes, panel.planes[LABELS], STRUCTURE_COLOURS, opacity=FILLING)

    def outlines(axes: Axes, panel: Panel) -> None:
        _show(axes, panel.planes[first], windows[first])
        plane = panel.planes[LABELS]
        _paint_over(axes, np.where(find_boundaries(plane, mode="inner"), plane, 0), STRUCTURE_COLOURS)

    draw_columns(
        path,
        title=title,
        volumes={**images, LABELS: labels},
        mask=mask,
        spacing_mm=spacing_mm,
        columns=[
            *(show(name) for name in images),
            Column(f"labels on {first}", filled),
            Column(f"outlines on {first}", outlines),
        ],
    )


def structure_colours(meaning: Labels) -> list[tuple[str, str]]:
    """Colour (CSS) and name of every structure, as :func:`draw_labelled` paints them; a region has several values."""
    return [
        (to_hex(STRUCTURE_COLOURS[(value - 1) % len(STRUCTURE_COLOURS)]), name)
        for value, name in sorted(names_of_values(meaning).items())
    ]


def _show(axes: Axes, plane: NDArray[np.float32], window: Window) -> None:
    axes.imshow(plane, cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest", aspect="auto")


def _paint_over(
    axes: Axes, classes: NDArray[np.integer], colours: Sequence[tuple[float, ...]], *, opacity: float = 1.0
) -> None:
    """Colour the pixels of class 1 and above, from the first colour again behind the last; 0 stays as it is."""
    table = np.array([(0.0, 0.0, 0.0, 0.0), *((*colour[:3], opacity) for colour in colours)])
    chosen = np.where(classes > 0, (classes - 1) % len(colours) + 1, 0)
    axes.imshow(table[chosen], interpolation="nearest", aspect="auto")


def _window(volume: FloatArray, mask: NDArray[np.bool_]) -> Window:
    """Darkest and brightest intensity shown: of most voxels in the mask, with the background below it."""
    low = float(min(np.percentile(volume, 1), np.percentile(volume[mask], 1)))
    high = float(np.percentile(volume[mask], 99.5))
    return low, high if high > low else low + 1
