"""Simulated pairs, made once: a T1w image of a random scanner of 0.1 to 3 T, and the same anatomy at 7 T's parameters.

**Nothing of it was measured.** Each draw is one file of half precision that trainings map into memory: source and
target `(2, *S)`, and beside it the structures. The axes of every draw are turned at random, so that slices of the first
axis are of all three planes.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from make_keepers.maps import CEREBRUM, LabelMap, class_indices, cut, read_map
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.preprocessing.low_field.slice_profile import SliceProfile, fill_slices, take_slices
from nnunet_uhf.preprocessing.synthesis import (
    PROTON_DENSITY,
    Anatomy,
    Sequence,
    SimulatedStructure,
    bias_field,
    rician,
    structure_signals,
    synthesise_image,
    t1_seconds,
    t2_star_seconds,
    vary_structures,
)
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.types import FloatArray

TARGET_FIELD_T = 7.0
TARGET = Sequence(kind="ir", tr_ms=2500, te_ms=3, ti_ms=1100)
FIELDS_T = (0.1, 3.0)
WHITE_MATTER_SNR = (6.0, 100.0)
"""Of the source as it was acquired, before it is interpolated: the noise of 64 mT scans is in that range."""
SLICE_DISTANCES = (1, 1, 2, 3, 4, 5, 6)
"""In mm along one random axis; the two others have 1 or 2 mm."""
LEAST_BRAIN = 0.1
BLUR_VOXELS = (0.0, 0.9)
SOURCE_BIAS, TARGET_BIAS = (0.0, 0.25), 0.0
CONTRAST = 0.07
"""Standard deviation of each structure's own brightness in the source, as part of it."""
VARIATION = 0.03
PARTIAL_VOLUME = 0.5
MARGIN, HEAD_MARGIN = 4, 18
SLAB = 64
"""Voxels of a draw along its first axis: a part of the brain, so that there are more draws in the same time."""
TOWARDS_WHITE = {10: (0.3, 0.6), 12: (0.1, 0.3), 13: (0.5, 0.9), 26: (0.0, 0.2)}
"""How far thalamus, putamen, pallidum and accumbens lie from cortex towards white matter (ours; a range, as
published values differ): in T1w images of any field strength they are between the two."""
RIGHT = {49: 10, 51: 12, 52: 13, 58: 26}
DESCRIPTION = {
    "source_fields_T": list(FIELDS_T),
    "target_field_T": TARGET_FIELD_T,
    "sequences": "source: inversion recovery or spoiled gradient echo of random times, white brighter than grey "
    "brighter than fluid; target: " + json.dumps(dataclasses.asdict(TARGET)),
    "white_matter_snr": list(WHITE_MATTER_SNR),
    "slice_distances_mm": sorted(set(SLICE_DISTANCES)),
    "bias": list(SOURCE_BIAS),
    "contrast": CONTRAST,
}
"""What a keeper's header says of its simulation."""


def make_pairs(
    maps: list[LabelMap], folder: Path, *, draws: int, heads: int, seed: int, console: Console | None = None
) -> None:
    """Write `draws` pairs of each map without, and `heads` of each whole head with what lies around the brain.

    What is there already is not made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress = maps if console is None else track(maps, description="simulating pairs", console=console)
    for one in progress:
        names = [f"{one.case}_brain{number}" for number in range(draws)]
        names += [f"{one.case}_head{number}" for number in range(heads if one.source == "synthseg" else 0)]
        missing = [name for name in names if not (folder / f"{name}.json").is_file()]
        labels = read_map(one) if missing else None
        for name in missing:
            assert labels is not None
            pair, structures, record = simulate_pair(
                labels, case_generator(seed, name), whole_head=name.rpartition("_")[2].startswith("head")
            )
            np.save(folder / f"{name}.npy", pair)
            np.save(folder / f"{name}_labels.npy", structures)
            with written_whole(folder / f"{name}.json") as temporary:
                temporary.write_text(json.dumps({"case": one.case, **record}, indent=1))


def simulate_pair(
    labels: npt.NDArray[np.int16], rng: np.random.Generator, *, whole_head: bool
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.uint8], dict[str, Any]]:
    """One draw: source and target `(2, *S)`, structures `(*S)`, and what was drawn.

    Images of brains alone are normalised in the brain and zero outside, as nnU-Net does with masks; whole heads over
    the whole image. The record holds what turns the one into the other.
    """
    labels = slab(cut(labels, HEAD_MARGIN if whole_head else MARGIN), rng)
    anatomy = vary_structures(labels, rng, variation=VARIATION, margin=max(labels.shape))
    sequence, field = draw_source(rng)
    deep = {label: float(rng.uniform(*limits)) for label, limits in TOWARDS_WHITE.items()}
    around = np.zeros(0, np.float32)
    outside = np.zeros(anatomy.index.shape, np.int16)
    if whole_head:
        outside = np.where(anatomy.index == 0, labels[anatomy.box], 0)
        around = rng.uniform(0.0, 1.2, int(outside.max()) + 1).astype(np.float32)
        around[0] = 0
    target = synthesise_image(
        deep_grey(anatomy, TARGET_FIELD_T, deep), TARGET, TARGET_FIELD_T, blur_voxels=(PARTIAL_VOLUME,) * 3
    )
    source = synthesise_image(
        jittered(deep_grey(anatomy, field, deep), rng), sequence, field, blur_voxels=(PARTIAL_VOLUME,) * 3
    )
    whites = [float(np.median(image[anatomy.tissues == 3])) for image in (source, target)]
    if whole_head:
        shown = ndimage.gaussian_filter(around[outside], PARTIAL_VOLUME)
        shown[anatomy.index > 0] = 0
        source, target = source + whites[0] * shown, target + whites[1] * shown
    source, acquired = degrade(source, rng, white=whites[0])
    inside = anatomy.index > 0
    images = [source, target]
    if not whole_head:
        for image in images:
            image[~inside] = 0
    shifts = [normalisation(image, inside) for image in images]
    pair = []
    for image, shift in zip(images, shifts, strict=True):
        one = shift["whole" if whole_head else "brain"]
        normalised = (image - one["mean"]) / one["std"]
        pair.append(normalised if whole_head else np.where(inside, normalised, 0))
    structures = class_indices(np.where(inside, labels[anatomy.box], 0).astype(np.int16))
    record = {
        "whole_head": whole_head,
        "field_T": field,
        "sequence": dataclasses.asdict(sequence),
        **acquired,
        "normalisation": {"source": shifts[0], "target": shifts[1]},
    }
    return np.stack(pair).astype(np.float16), structures, record


def slab(labels: npt.NDArray[np.int16], rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """A part of the map, its axes in random order and direction."""
    labels = labels.transpose(rng.permutation(3))[tuple(slice(None, None, int(rng.choice((1, -1)))) for _ in range(3))]
    while True:
        first = int(rng.integers(max(len(labels) - SLAB, 0) + 1))
        part = labels[first : first + SLAB]
        if np.isin(part, CEREBRUM).mean() > LEAST_BRAIN:
            return np.ascontiguousarray(part)


def draw_source(rng: np.random.Generator) -> tuple[Sequence, float]:
    """A T1-weighted sequence and a field strength: white matter brighter than grey, grey brighter than fluid."""
    while True:
        field = float(np.exp(rng.uniform(*np.log(FIELDS_T))))
        if rng.random() < 0.6:
            tr = rng.uniform(1200, 3000)
            sequence = Sequence(kind="ir", tr_ms=tr, te_ms=rng.uniform(2, 8), ti_ms=rng.uniform(300, 0.5 * tr))
        else:
            sequence = Sequence(
                kind="spgr", tr_ms=rng.uniform(12, 60), te_ms=rng.uniform(2, 8), flip_angle_deg=rng.uniform(15, 60)
            )
        fluid, grey, white = plain_signals(sequence, field)
        if white > 1.05 * grey > 1.05 * abs(fluid) and grey > 0:
            return sequence, field


def plain_signals(sequence: Sequence, field: float) -> tuple[float, float, float]:
    """Signals of fluid, grey and white matter as published."""
    structures = [
        SimulatedStructure(label=0, tissue=tissue, t1_factor=1, decay_factor=1, density_factor=1)
        for tissue in ("csf", "gm", "wm")
    ]
    fluid, grey, white = structure_signals(structures, sequence, field).tolist()
    return fluid, grey, white


def deep_grey(anatomy: Anatomy, field: float, towards_white: dict[int, float]) -> Anatomy:
    """The anatomy with deep grey matter between cortex and white matter, in relaxation and in proton density."""
    ratios = {
        "t1_factor": t1_seconds("wm", field) / t1_seconds("gm", field),
        "decay_factor": t2_star_seconds("wm", field) / t2_star_seconds("gm", field),
        "density_factor": PROTON_DENSITY["wm"] / PROTON_DENSITY["gm"],
    }
    structures = []
    for one in anatomy.structures:
        part = towards_white.get(RIGHT.get(one.label, one.label), 0.0)
        changed = {name: getattr(one, name) * (1 - part + part * ratio) for name, ratio in ratios.items()}
        structures.append(dataclasses.replace(one, **changed))
    return dataclasses.replace(anatomy, structures=tuple(structures))


def jittered(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """The anatomy with a brightness of its own for each structure, as no table knows of a real scanner."""
    factors = np.exp(CONTRAST * rng.standard_normal(len(anatomy.structures)))
    structures = tuple(
        dataclasses.replace(one, density_factor=one.density_factor * float(factor))
        for one, factor in zip(anatomy.structures, factors, strict=True)
    )
    return dataclasses.replace(anatomy, structures=structures)


def degrade(image: FloatArray, rng: np.random.Generator, *, white: float) -> tuple[FloatArray, dict[str, Any]]:
    """Bias field, thick slices along one axis, coarser voxels in the others, noise; interpolated to the grid again."""
    strength = float(rng.uniform(*SOURCE_BIAS))
    image = image * bias_field(image.shape, rng, strength=strength)
    blur = rng.uniform(*BLUR_VOXELS, size=3)
    image = ndimage.gaussian_filter(image, blur).astype(np.float32)
    thick = int(rng.integers(3))
    ratios = [int(rng.choice(SLICE_DISTANCES)) if axis == thick else int(rng.integers(1, 3)) for axis in range(3)]
    size = image.shape
    for axis, ratio in enumerate(ratios):
        if ratio > 1:
            image = take_slices(image, SliceProfile(thickness=ratio, gap=0), axis=axis)
    snr = float(math.exp(rng.uniform(*np.log(WHITE_MATTER_SNR))))
    image = rician(np.maximum(image, 1e-6), rng, sigma=white / snr)
    for axis, ratio in enumerate(ratios):
        if ratio > 1:
            image = fill_slices(image, ratio=ratio, size=size[axis], axis=axis)
    return image.astype(np.float32), {"bias": strength, "distances_mm": ratios, "snr": snr, "blur": blur.tolist()}


def normalisation(image: FloatArray, inside: npt.NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation in the brain, and over the whole image."""
    return {
        name: {"mean": float(values.mean(dtype=np.float64)), "std": float(values.std(dtype=np.float64))}
        for name, values in (("brain", image[inside]), ("whole", image))
    }
