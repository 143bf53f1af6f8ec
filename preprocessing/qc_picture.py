"""One picture of a pair: source, target, the target's edges over the source, and the mask's outline, in three planes.

Volumes (X, Y, Z) are turned to the standard axes right, anterior, superior; oblique scans to the nearest ones, without
resampling. Pictures follow the radiological convention: the patient's right is on the left side, marked R.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray
from scipy.ndimage import zoom
from skimage.feature import canny

from nnunet_uhf.preprocessing.nifti import Affine, FloatArray

# plane -> (axis through it, axis shown to the right, axis shown upwards, mark left, right, top, bottom) in RAS.
# Right and anterior point to the left of a picture.
PLANES = {
    "axial": (2, 0, 1, "R", "L", "A", "P"),
    "coronal": (1, 0, 2, "R", "L", "S", "I"),
    "sagittal": (0, 1, 2, "A", "P", "S", "I"),
}
MARGIN_MM = 8.0
PIXELS = 340  # along the longer side of a panel
THIN = 8  # with fewer voxels along an axis, the planes across it would be bands: several slices are shown instead
SHOWN_SLICES = 3
EDGE_SIGMA_MM = 1.5
EDGE_COLOUR, MASK_COLOUR = "#E69F00", "#56B4E9"  # told apart by people with colour-blindness (Okabe and Ito 2008)

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """A case on one grid: volumes (X, Y, Z) with standard axes, and the voxel size along them in mm."""

    source: FloatArray
    target: FloatArray
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Slice:
    """One slice of a volume: the name of its plane and its index along the axis through the plane (RAS)."""

    plane: str
    index: int


def standard_axes(volume: NDArray[Any], affine: Affine) -> tuple[NDArray[Any], Affine]:
    """The volume (X, Y, Z) and its affine (4, 4) with axes flipped and permuted to the nearest RAS."""
    orientation = io_orientation(affine)
    return apply_orientation(volume, orientation), affine @ inv_ornt_aff(orientation, volume.shape)


def make_pair(source: FloatArray, target: FloatArray, mask: NDArray[np.bool_], affine: Affine) -> Pair:
    """The pair in standard axes; the three volumes (X, Y, Z) lie on one grid with this affine (4, 4)."""
    turned, standard = standard_axes(source, affine)
    spacing = tuple(float(size) for size in voxel_sizes(standard))
    return Pair(
        turned,
        standard_axes(target, affine)[0],
        standard_axes(mask, affine)[0],
        (spacing[0], spacing[1], spacing[2]),
    )


def choose_slices(mask: NDArray[np.bool_]) -> list[Slice]:
    """The slice of each plane through the centre of the mask (X, Y, Z), which holds at least one voxel.

    A volume thinner than 8 voxels gives up to three slices across its thin axis instead.
    """
    where = np.argwhere(mask)
    thin = int(np.argmin(mask.shape))
    if mask.shape[thin] < THIN:
        plane = next(name for name, (axis, *_) in PLANES.items() if axis == thin)
        low, high = where[:, thin].min(), where[:, thin].max()
        indices = np.unique(np.linspace(low, high, SHOWN_SLICES).round().astype(int))
        return [Slice(plane, int(index)) for index in indices]
    centre = where.mean(axis=0)
    return [Slice(plane, round(float(centre[axis]))) for plane, (axis, *_) in PLANES.items()]


def cut(volume: NDArray[Any], where: Slice) -> NDArray[Any]:
    """The slice (rows, columns) as it is shown: first row at the top, the patient's right or front at the left."""
    axis, *_ = PLANES[where.plane]
    # what is left are the axes shown to the left and upwards, in this order, in every plane
    return np.asarray(np.take(volume, where.index, axis=axis).T[::-1, ::-1])


def draw_pair(pair: Pair, path: Path, *, title: str, source_name: str, target_name: str) -> None:
    """Write the picture of a pair as PNG: a row for each slice, four columns."""
    slices = choose_slices(pair.mask)
    box = _box(pair)
    cropped = {name: getattr(pair, name)[box] for name in ("source", "target", "mask")}
    panels = [
        _Panel.of(cropped, Slice(s.plane, s.index - box[PLANES[s.plane][0]].start), pair.spacing_mm) for s in slices
    ]
    windows = {name: _window(getattr(pair, name), pair.mask) for name in ("source", "target")}
    columns = (source_name, target_name, f"edges of {target_name} on {source_name}", f"mask on {target_name}")
    heights = [panel.source.shape[0] for panel in panels]
    width = max(panel.source.shape[1] for panel in panels)
    gap, head = 6, 58
    size = (4 * width + 5 * gap, sum(heights) + gap * (len(panels) + 1) + head)
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor="black")
    figure.text(gap / size[0], 1 - 16 / size[1], _plain(title), color="white", fontsize=11, va="center")
    bottom = size[1] - head
    for row, (panel, chosen) in enumerate(zip(panels, slices, strict=True)):
        bottom -= heights[row]
        for column, name in enumerate(columns):
            left = gap + column * (width + gap) + (width - panel.source.shape[1]) / 2
            place = (left / size[0], bottom / size[1], panel.source.shape[1] / size[0], heights[row] / size[1])
            axes = figure.add_axes(place)
            _draw_panel(axes, panel, column, windows)
            _mark(axes, chosen)
            if row == 0:
                middle = (gap + column * (width + gap) + width / 2) / size[0]
                figure.text(middle, 1 - 42 / size[1], _plain(name), color="white", fontsize=9, ha="center", va="center")
        bottom -= gap
    figure.savefig(path, format="png", dpi=100, facecolor="black")


@dataclass(frozen=True)
class _Panel:
    """A slice of each volume, resampled to square pixels."""

    source: Plane
    target: Plane
    mask: Plane
    pixel_mm: float

    @classmethod
    def of(cls, volumes: dict[str, NDArray[Any]], where: Slice, spacing_mm: tuple[float, float, float]) -> _Panel:
        _, across, up, *_ = PLANES[where.plane]
        planes = {name: cut(volume, where).astype(np.float32) for name, volume in volumes.items()}
        shape = planes["source"].shape
        pixel_mm = max(shape[0] * spacing_mm[up], shape[1] * spacing_mm[across]) / PIXELS
        sampled = {
            name: square_pixels(plane, (spacing_mm[up], spacing_mm[across]), pixel_mm) for name, plane in planes.items()
        }
        return cls(**sampled, pixel_mm=pixel_mm)


def square_pixels(plane: Plane, spacing_mm: tuple[float, float], pixel_mm: float) -> Plane:
    """Resample a slice (rows, columns) of this spacing to square pixels of `pixel_mm`, linearly."""
    shape = [max(1, round(n * s / pixel_mm)) for n, s in zip(plane.shape, spacing_mm, strict=True)]
    factors = [after / before for after, before in zip(shape, plane.shape, strict=True)]
    return np.asarray(zoom(plane, factors, order=1, mode="nearest", grid_mode=True))


def _box(pair: Pair) -> tuple[slice, slice, slice]:
    """The mask's bounding box with a margin, inside the volume."""
    where = np.argwhere(pair.mask)
    margin = np.ceil(MARGIN_MM / np.array(pair.spacing_mm)).astype(int)
    low = np.maximum(where.min(axis=0) - margin, 0)
    high = np.minimum(where.max(axis=0) + 1 + margin, pair.mask.shape)
    first, second, third = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return first, second, third


def _window(volume: FloatArray, mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Darkest and brightest intensity shown: of most voxels in the mask, with the background below it."""
    low = float(min(np.percentile(volume, 1), np.percentile(volume[mask], 1)))
    high = float(np.percentile(volume[mask], 99.5))
    return low, high if high > low else low + 1


def _draw_panel(axes: Axes, panel: _Panel, column: int, windows: dict[str, tuple[float, float]]) -> None:
    axes.set_axis_off()
    shown = "source" if column in (0, 2) else "target"
    low, high = windows[shown]
    axes.imshow(getattr(panel, shown), cmap="gray", vmin=low, vmax=high, interpolation="nearest", aspect="auto")
    if column == 2:
        low, high = windows["target"]
        scaled = np.clip((panel.target - low) / (high - low), 0, 1)
        edges = canny(scaled, sigma=max(1.0, EDGE_SIGMA_MM / panel.pixel_mm), mode="nearest")
        colour = np.zeros((*edges.shape, 4))
        colour[edges] = to_rgba(EDGE_COLOUR)
        axes.imshow(colour, interpolation="nearest", aspect="auto")
    if column == 3 and min(panel.mask.shape) > 1 and 0 < panel.mask.mean() < 1:
        axes.contour(panel.mask, [0.5], colors=MASK_COLOUR, linewidths=1.0)


def _mark(axes: Axes, where: Slice) -> None:
    """Write the directions at the borders of a panel."""
    _, _, _, left, right, top, bottom = PLANES[where.plane]
    style: dict[str, Any] = {"transform": axes.transAxes, "color": "#F0E442", "fontsize": 8, "fontweight": "bold"}
    axes.text(0.01, 0.5, left, ha="left", va="center", **style)
    axes.text(0.99, 0.5, right, ha="right", va="center", **style)
    axes.text(0.5, 0.99, top, ha="center", va="top", **style)
    axes.text(0.5, 0.01, bottom, ha="center", va="bottom", **style)


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
