"""Layout of a QC picture: slices through a case as rows, columns of panels, all to scale and the right way round.

Volumes (X, Y, Z) are turned to the standard axes right, anterior, superior; oblique scans to the nearest ones, without
resampling. Pictures follow the radiological convention: the patient's right is on the left side, marked R.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import zoom

from nnunet_uhf.imageio.planes import PLANES, THIN, Plane, Slice, box_around, cut, plane_across
from nnunet_uhf.pages.colours import YELLOW
from nnunet_uhf.types import Spacing

PIXELS = 340  # along the longer side of a panel
SHOWN_SLICES = 3


@dataclass(frozen=True)
class Panel:
    """A slice of every volume by name, resampled to square pixels of this size."""

    planes: Mapping[str, Plane]
    pixel_mm: float


@dataclass(frozen=True)
class Column:
    """A heading, and what is drawn below it in every row."""

    name: str
    paint: Callable[[Axes, Panel], None]


def central_slices(mask: NDArray[np.bool_]) -> list[Slice]:
    """The slice of each plane through the centre of the mask (X, Y, Z), which holds at least one voxel.

    A volume thinner than 8 voxels gives up to three slices across its thin axis instead.
    """
    where = np.argwhere(mask)
    thin = int(np.argmin(mask.shape))
    if mask.shape[thin] < THIN:
        low, high = where[:, thin].min(), where[:, thin].max()
        indices = np.unique(np.linspace(low, high, SHOWN_SLICES).round().astype(int))
        return [Slice(plane_across(thin), int(index)) for index in indices]
    centre = where.mean(axis=0)
    return [Slice(name, round(float(centre[plane.normal]))) for name, plane in PLANES.items()]


def draw_columns(
    path: Path,
    *,
    title: str,
    volumes: Mapping[str, NDArray[Any]],
    mask: NDArray[np.bool_],
    spacing_mm: Spacing,
    columns: Sequence[Column],
) -> None:
    """Write a picture as PNG: a row for each slice, through the volumes' part around the mask.

    Volumes and mask are (X, Y, Z) with standard axes; those of whole numbers are resampled without interpolation.
    """
    slices = central_slices(mask)
    box = box_around(mask, spacing_mm)
    cropped = {name: volume[box] for name, volume in volumes.items()}
    panels = [_panel(cropped, Slice(s.plane, s.index - box[PLANES[s.plane].normal].start), spacing_mm) for s in slices]
    shapes = [next(iter(panel.planes.values())).shape for panel in panels]
    width = max(shape[1] for shape in shapes)
    gap, head = 6, 58
    size = (len(columns) * (width + gap) + gap, sum(h for h, _ in shapes) + gap * (len(panels) + 1) + head)
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor="black")
    figure.text(gap / size[0], 1 - 16 / size[1], _plain(title), color="white", fontsize=11, va="center")
    bottom = size[1] - head
    for row, (panel, shape, chosen) in enumerate(zip(panels, shapes, slices, strict=True)):
        bottom -= shape[0]
        for column, (name, paint) in enumerate((column.name, column.paint) for column in columns):
            left = gap + column * (width + gap) + (width - shape[1]) / 2
            axes = figure.add_axes((left / size[0], bottom / size[1], shape[1] / size[0], shape[0] / size[1]))
            axes.set_axis_off()
            paint(axes, panel)
            _mark(axes, chosen)
            if row == 0:
                middle = (gap + column * (width + gap) + width / 2) / size[0]
                figure.text(middle, 1 - 42 / size[1], _plain(name), color="white", fontsize=9, ha="center", va="center")
        bottom -= gap
    figure.savefig(path, format="png", dpi=100, facecolor="black")


def square_pixels(plane: Plane, spacing_mm: tuple[float, float], pixel_mm: float) -> Plane:
    """Resample a slice (rows, columns) of this spacing to square pixels of `pixel_mm`: linearly, labels to nearest."""
    shape = [max(1, round(n * s / pixel_mm)) for n, s in zip(plane.shape, spacing_mm, strict=True)]
    factors = [after / before for after, before in zip(shape, plane.shape, strict=True)]
    order = 0 if np.issubdtype(plane.dtype, np.integer) else 1
    return np.asarray(zoom(plane, factors, order=order, mode="nearest", grid_mode=True))


def _panel(volumes: Mapping[str, NDArray[Any]], where: Slice, spacing_mm: Spacing) -> Panel:
    axes = PLANES[where.plane]
    spacing = (spacing_mm[axes.up], spacing_mm[axes.across])
    planes = {name: cut(volume, where) for name, volume in volumes.items()}
    rows, columns = next(iter(planes.values())).shape
    pixel_mm = max(rows * spacing[0], columns * spacing[1]) / PIXELS
    return Panel({name: square_pixels(plane, spacing, pixel_mm) for name, plane in planes.items()}, pixel_mm)


def _mark(axes: Axes, where: Slice) -> None:
    """Write the directions at the borders of a panel."""
    left, right, top, bottom = PLANES[where.plane].marks
    style: dict[str, Any] = {"transform": axes.transAxes, "color": YELLOW, "fontsize": 8, "fontweight": "bold"}
    axes.text(0.01, 0.5, left, ha="left", va="center", **style)
    axes.text(0.99, 0.5, right, ha="right", va="center", **style)
    axes.text(0.5, 0.99, top, ha="center", va="top", **style)
    axes.text(0.5, 0.01, bottom, ha="center", va="bottom", **style)


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
