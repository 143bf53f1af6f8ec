"""Which subjects and slices are shown, and in which colours: made of arrays alone, so that it can be checked.

Volumes (X, Y, Z) have standard axes (RAS). Slices follow the radiological convention: the patient's
right is on the left side, see :func:`nnunet_uhf.imageio.planes.cut`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.imageio.planes import PLANES, THIN, Slice, plane_across
from nnunet_uhf.nnunet.labels import Labels
from nnunet_uhf.pages.colours import PALETTE as NAMED
from nnunet_uhf.pages.colours import rgb

LabelSlices = NDArray[np.int32]
Colour = tuple[int, int, int]
Rgb = NDArray[np.uint8]

SHOWN_PLANES = ("axial", "coronal")
PALETTE: tuple[Colour, ...] = tuple(rgb(colour) for colour in NAMED)
#: colours of the error map: none of them is near one of the structures'
ONLY_BASELINE_WRONG: Colour = (255, 0, 200)
ONLY_MODEL_WRONG: Colour = (170, 255, 0)
BOTH_WRONG: Colour = (200, 200, 200)
OVERLAY = 0.6  # part of a structure's colour over the image
DIMMED = 0.45  # brightness of the image below the error map


@dataclass(frozen=True)
class Classes:
    """Label maps in which two voxels are alike when they belong to the same structures.

    Attributes:
        maps: by name, class of every voxel (X, Y, Z); 0 is none.
        colours: by class, from 1 on.
        names: of the structure that gives a class its colour, by class.
    """

    maps: Mapping[str, LabelSlices]
    colours: Mapping[int, Colour]
    names: Mapping[int, str]


def subjects_to_show(gains: Mapping[str, float]) -> list[tuple[str, str]]:
    """(role, case) of the subjects on which the model gains most, the median and least; NaN is left out.

    Two subjects have no median; one alone is "the only subject". Equal gains go by name.
    """
    ranked = sorted((case for case, gain in gains.items() if not np.isnan(gain)), key=lambda case: (-gains[case], case))
    if len(ranked) < 2:
        return [("the only subject", case) for case in ranked]
    chosen = [("best", ranked[0]), ("median", ranked[(len(ranked) - 1) // 2]), ("worst", ranked[-1])]
    return [chosen[0], chosen[2]] if len(ranked) == 2 else chosen


def classes_of(maps: Mapping[str, NDArray[Any]], task: Labels, *, truth: str) -> Classes:
    """Translate label maps (X, Y, Z) into classes; where the truth is not annotated, all are 0.

    With regions a class is a set of regions, and has the colour and name of the smallest one.
    """
    values = sorted(set().union(*(np.unique(labels).tolist() for labels in maps.values())))
    number: dict[frozenset[int], int] = {frozenset(): 0}
    lookup: dict[int, int] = {}
    order = {structure.name: index for index, structure in enumerate(task.structures)}
    # colours and numbers must not depend on what a case happens to hold: all values of the task come first
    for value in (*(v for structure in task.structures for v in structure.values), *values):
        members = frozenset(i for i, structure in enumerate(task.structures) if value in structure.values)
        lookup[value] = number.setdefault(members, len(number))
    hidden = np.zeros(next(iter(maps.values())).shape, bool) if task.ignore is None else maps[truth] == task.ignore
    translated = {}
    for name, labels in maps.items():
        found, inverse = np.unique(labels, return_inverse=True)
        codes = np.array([lookup[int(value)] for value in found], np.int32)[inverse].reshape(labels.shape)
        translated[name] = np.where(hidden, np.int32(0), codes)
    smallest = {
        code: min((task.structures[i] for i in members), key=lambda s: len(s.values)).name
        for members, code in number.items()
        if members
    }
    colours = palette(len(task.structures))
    return Classes(translated, {code: colours[order[name]] for code, name in smallest.items()}, smallest)


def palette(count: int) -> list[Colour]:
    """Distinct colours: seven for colour-blind eyes, then hues a golden angle apart."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    hues = [(0.55 + index * 0.618033988749895) % 1 for index in range(count)]
    made = [colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * (i % 2), 0.95 - 0.2 * (i % 3)) for i, hue in enumerate(hues)]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in made]


def choose_slices(truth: LabelSlices, baseline: LabelSlices, model: LabelSlices) -> list[Slice]:
    """The axial and the coronal slice on which the two predictions differ most in what they have right.

    That is, with most voxels that one of the two has right and the other wrong; where there is none, with most errors,
    and where there is no error either, with most of the truth. Planes whose slices would be bands of fewer than 8
    voxels are left out; of a thin volume the plane across its thin axis stays.
    """
    wrong = baseline != truth, model != truth
    for weight in (wrong[0] ^ wrong[1], wrong[0] | wrong[1], truth != 0, np.ones(truth.shape, bool)):
        if weight.any():
            break
    chosen = []
    for plane in _planes(truth.shape):
        axis = PLANES[plane].normal
        counts = weight.sum(axis=tuple(other for other in range(3) if other != axis))
        chosen.append(Slice(plane, int(counts.argmax())))
    return chosen


def _planes(shape: Sequence[int]) -> list[str]:
    fine = [plane for plane in SHOWN_PLANES if min(shape[PLANES[plane].across], shape[PLANES[plane].up]) >= THIN]
    return fine or [plane_across(int(np.argmin(shape)))]


def overlay(grey: NDArray[np.floating[Any]], classes: LabelSlices, colours: Mapping[int, Colour]) -> Rgb:
    """Classes (rows, columns) in colour over a grey image of 0 to 1."""
    picture = np.repeat(255 * np.clip(grey, 0, 1)[..., None], 3, axis=-1)
    for code, colour in colours.items():
        inside = classes == code
        picture[inside] = (1 - OVERLAY) * picture[inside] + OVERLAY * np.array(colour)
    return np.rint(picture).astype(np.uint8)


def error_map(grey: NDArray[np.floating[Any]], truth: LabelSlices, baseline: LabelSlices, model: LabelSlices) -> Rgb:
    """Who is wrong where (rows, columns): opaque colours over the dimmed grey image of 0 to 1."""
    picture = np.rint(np.repeat(255 * DIMMED * np.clip(grey, 0, 1)[..., None], 3, axis=-1)).astype(np.uint8)
    first, second = baseline != truth, model != truth
    for where, colour in (
        (first & ~second, ONLY_BASELINE_WRONG),
        (~first & second, ONLY_MODEL_WRONG),
        (first & second, BOTH_WRONG),
    ):
        picture[where] = colour
    return picture
