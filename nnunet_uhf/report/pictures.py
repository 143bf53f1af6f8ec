"""Pictures of subjects on which a model gains most, the median and least: image, truth, predictions, errors."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.image import imsave
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from scipy.ndimage import zoom

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.planes import PLANES, Plane, Slice, box_around, cut, standard_axes
from nnunet_uhf.imageio.volumes import read_any_labels, read_any_volume, require_any_same_grid
from nnunet_uhf.nnunet.labels import Labels
from nnunet_uhf.report.slices import Classes, Rgb, choose_slices, classes_of, error_map, overlay

PIXELS = 256  # along the longer side of a panel
TRUTH, BASELINE, MODEL = "truth", "baseline", "model"


@dataclass(frozen=True)
class PicturePanel:
    """One picture: a PNG as data URI, and what it shows."""

    title: str
    uri: str


@dataclass(frozen=True)
class PictureRow:
    """The panels of one slice, with the directions at their left, right, top and bottom border."""

    plane: str
    marks: tuple[str, str, str, str]
    panels: tuple[PicturePanel, ...]


@dataclass(frozen=True)
class SubjectPictures:
    """A subject as it is shown.

    Attributes:
        case: its name.
        role: why it is shown.
        rows: one a slice.
        legend: colour (CSS) and name of the structures.
        note: why there is no image, or None.
    """

    case: str
    role: str
    rows: tuple[PictureRow, ...]
    legend: tuple[tuple[str, str], ...]
    note: str | None = None


def draw_subject(
    case: str,
    role: str,
    files: Mapping[str, Path],
    image: Path | None,
    task: Labels,
    *,
    names: tuple[str, str],
) -> SubjectPictures:
    """Draw a subject.

    Args:
        case: its name.
        role: why it is shown, for people.
        files: label maps by :data:`TRUTH`, :data:`BASELINE`, :data:`MODEL`.
        image: what was segmented; None where it is not known, the label maps then lie on black.
        task: the structures.
        names: of baseline and model.

    Raises:
        UHFError: a damaged file.
    """
    read = {name: read_any_labels(path) for name, path in files.items()}
    affine = read[TRUTH][1]
    grey, note = _grey(image, files[TRUTH], read[TRUTH][0].shape)
    turned = {name: standard_axes(labels, affine)[0] for name, (labels, _) in read.items()}
    standard, standard_affine = standard_axes(grey, affine)
    spacing_mm = tuple(float(size) for size in voxel_sizes(standard_affine))
    classes = classes_of(turned, task, truth=TRUTH)
    every = np.any([labels != 0 for labels in classes.maps.values()], axis=0)
    # the truth's box: a stray predicted voxel far away would shrink the rest
    box = box_around(classes.maps[TRUTH] != 0 if classes.maps[TRUTH].any() else every, spacing_mm)
    maps = {name: labels[box] for name, labels in classes.maps.items()}
    rows = tuple(
        _row(where, standard[box], maps, classes, spacing_mm, names=names, image=note is None)
        for where in choose_slices(maps[TRUTH], maps[BASELINE], maps[MODEL])
    )
    legend = dict.fromkeys((_css(classes.colours[code]), name) for code, name in classes.names.items())
    return SubjectPictures(case, role, rows, tuple(legend), note)


def data_uri(picture: Rgb) -> str:
    """A picture (rows, columns, 3) as a PNG data URI."""
    buffer = io.BytesIO()
    imsave(buffer, picture, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _row(
    where: Slice,
    grey: Plane,
    maps: Mapping[str, Plane],
    classes: Classes,
    spacing_mm: tuple[float, ...],
    *,
    names: tuple[str, str],
    image: bool,
) -> PictureRow:
    axes = PLANES[where.plane]
    steps = spacing_mm[axes.up], spacing_mm[axes.across]
    plane = cut(grey, where)
    pixel_mm = max(n * step for n, step in zip(plane.shape, steps, strict=True)) / PIXELS
    grey = _smooth(plane, steps, pixel_mm)
    shown = {name: _nearest(cut(labels, where), grey.shape) for name, labels in maps.items()}
    panels = [PicturePanel("image", data_uri(overlay(grey, shown[TRUTH], {})))] if image else []
    for name, title in ((TRUTH, "truth"), (BASELINE, names[0]), (MODEL, names[1])):
        panels.append(PicturePanel(title, data_uri(overlay(grey, shown[name], classes.colours))))
    errors = error_map(grey, shown[TRUTH], shown[BASELINE], shown[MODEL])
    panels.append(PicturePanel("errors", data_uri(errors)))
    return PictureRow(where.plane, axes.marks, tuple(panels))


def _grey(image: Path | None, truth: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], str | None]:
    """The image from 0 (dark) to 1, or black and the reason."""
    if image is None:
        return np.zeros(shape, np.float32), "The image was not found: name the folder of the images (-i)."
    try:
        require_any_same_grid(truth, image)
        values = read_any_volume(image).data
    except UHFError as error:
        return np.zeros(shape, np.float32), f"The image is not shown: {error}."
    low, high = np.percentile(values, [1, 99.7])
    return np.clip((values - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1).astype(np.float32), None


def _smooth(plane: Plane, steps: tuple[float, float], pixel_mm: float) -> Plane:
    """A slice with square pixels of that size, cubic."""
    factors = [max(1, round(n * s / pixel_mm)) / n for n, s in zip(plane.shape, steps, strict=True)]
    return np.clip(zoom(plane, factors, order=3, mode="nearest", grid_mode=True), 0, 1)


def _nearest(plane: Plane, shape: tuple[int, ...]) -> Plane:
    """A slice of labels with that many rows and columns, each from the voxel it lies in."""
    rows, columns = (np.arange(n) * old // n for n, old in zip(shape, plane.shape, strict=True))
    return np.asarray(plane[np.ix_(rows, columns)])


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
