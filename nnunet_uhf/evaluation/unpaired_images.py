"""Made images beside real ones of other subjects: folders in, JSON, CSV and a table out (`evaluate-images --unpaired`).

No number here says that an image is right: that takes a truth. They say whether a set of images looks like another one,
and whether each image still shows what its input shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.progress import track
from rich.table import Table
from rich.text import Text
from skimage.transform import resize

from nnunet_uhf import __version__
from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.evaluation.feature_network import FeatureNetwork
from nnunet_uhf.evaluation.image_sets import CaseSlices, box_sides, set_metrics, unit_slices
from nnunet_uhf.evaluation.images import partners
from nnunet_uhf.evaluation.translation import (
    local_correlation,
    mean_of,
    mean_shift,
    slice_roughness,
    tissue_contrast,
)
from nnunet_uhf.evaluation.unpaired_page import unpaired_page
from nnunet_uhf.imageio.files import case_files, case_name
from nnunet_uhf.imageio.label_maps import inside
from nnunet_uhf.imageio.nifti import read_volume, require_same_grid
from nnunet_uhf.imageio.output import appearing_together, write_table
from nnunet_uhf.imageio.planes import PLANES, standard_axes, standard_spacing
from nnunet_uhf.types import FloatArray, Mask

RECORD_NAME = "unpaired_metrics.json"
MADE, INPUT, HIGH_FIELD = "made", "input", "high_field"
LOW, HIGH = 0.1, 99.9
"""Percentiles of a set's voxels in the mask that become black and white."""
DEFINITIONS = {
    "shift_pixels": "mean length by which slices are moved against their input (phase correlation); 0 is right",
    "local_correlation": "mean size of the correlation with the input in windows of 7x7 pixels, 0 to 1",
    "roughness": "mean difference of neighbouring slices, in standard deviations; as in high_field is right",
    "contrast": "distance of the two brighter classes of intensity over their deviation; as in high_field is right",
    "ms_ssim_diversity": "mean MS-SSIM of pairs of slices of one set: how alike they are. It is not ms_ssim of a truth",
    "fd_NETWORK": "Frechet distance of the network's features from those of high_field; floor: of its two halves",
    "kid_NETWORK": "kernel distance of the same features",
    "is_NETWORK": "inception score of the network's classes; of one set alone",
}


@dataclass(frozen=True)
class _Image:
    """A volume with slices first, its mask, and the size of a pixel in mm."""

    data: FloatArray
    mask: Mask
    pixel_mm: tuple[float, float]


def evaluate_unpaired(
    reference: Path,
    prediction: Path,
    output: Path,
    *,
    source: Path | None = None,
    mask: Path | None = None,
    features: FeatureNetwork | None = None,
    plane: str = "axial",
    console: Console | None = None,
    odd: Odd | None = None,
) -> dict[str, Any]:
    """Hold made images against real ones of other subjects; write JSON, CSV and a page.

    `unpaired_metrics.json`, `per_case.csv`, `sets.csv`, and `index.html` with slices of some cases.

    Args:
        reference: folder of real high-field images (3D NIfTI).
        prediction: folder of made images; names need not be those of the reference.
        output: new or empty folder; it appears complete or not at all.
        source: folder of what they were made of, on the same grids, of the same names.
        mask: folder of masks of all these images (above 0 is inside); without it voxels above 0.
        features: describes slices, for distances of the sets; without it there are none.
        plane: whose slices are judged: axial, coronal or sagittal.
        console: shows a progress bar when given.
        odd: keeps made images that cannot be measured, while others can; without it the first is an error.

    Returns:
        The content of `unpaired_metrics.json`.

    Raises:
        UHFError: no images, a damaged file, unequal grids, an empty mask, another plane.
    """
    if plane not in PLANES:
        raise UHFError(f"plane is {plane!r}: use {', '.join(PLANES)}")
    left_out = Odd()
    files = {HIGH_FIELD: case_files(reference), MADE: case_files(prediction)}
    for name, folder in ((HIGH_FIELD, reference), (MADE, prediction)):
        if not files[name]:
            raise UHFError(f"{folder} holds no NIfTI image: name a folder of them")
    inputs: dict[str, str] = {}
    if source is not None:
        files[INPUT] = case_files(source)
        inputs = dict(partners(files[MADE], files[INPUT], f"{source} holds no input"))
    masks = {} if mask is None else case_files(mask)
    read = _Reader(masks, mask, plane)
    with appearing_together(output) as (folder,):
        todo = [(HIGH_FIELD, case) for case in files[HIGH_FIELD]] + [(MADE, case) for case in files[MADE]]
        bar = todo if console is None else track(todo, description="reading images", console=console)
        found: dict[str, dict[str, _Image]] = {HIGH_FIELD: {}, MADE: {}, INPUT: {}}
        rows: dict[str, list[dict[str, Any]]] = {HIGH_FIELD: [], MADE: [], INPUT: []}
        for name, case in bar:
            with left_out.kept(case):
                image = read(files[name][case])
                given = None
                if name == MADE and inputs:
                    require_same_grid(files[MADE][case], files[INPUT][inputs[case]])
                    given = read(files[INPUT][inputs[case]], masked_as=image)
                    found[INPUT][case] = given
                    rows[INPUT].append({"case": case, **_texture(given)})
                found[name][case] = image
                rows[name].append({"case": case, **_texture(image), **({} if given is None else _kept(image, given))})
        left_out.require_others(1 if odd is None else len(todo))
        if not found[HIGH_FIELD] or not found[MADE]:
            raise next(iter(left_out.reasons.values()))
        if odd is not None:
            odd.reasons.update(left_out.reasons)
        sets = {name: images for name, images in found.items() if images}
        slices = _slices(sets, features)
        measured = set_metrics(
            {name: list(cases.values()) for name, cases in slices.items()},
            real=HIGH_FIELD,
            network=None if features is None else features.name,
        )
        for name in sets:
            means = mean_of([{key: value for key, value in row.items() if key != "case"} for row in rows[name]])
            measured[name] = {**means, **measured[name]}
        record = {
            "format": 1,
            "package_version": __version__,
            "settings": {
                "reference": str(reference),
                "prediction": str(prediction),
                "input": None if source is None else str(source),
                "mask": None if mask is None else str(mask),
                "features": None if features is None else features.name,
                "plane": plane,
                "not_measured": {case: str(why) for case, why in left_out.reasons.items()},
            },
            "definitions": DEFINITIONS,
            "metric_per_case": {name: rows[name] for name in sets},
            "sets": measured,
        }
        (folder / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (folder / "index.html").write_text(unpaired_page(record, slices, made=MADE), encoding="utf-8")
        write_table(folder / "per_case.csv", _filled([{"set": name, **row} for name in sets for row in rows[name]]))
        write_table(folder / "sets.csv", _filled([{"set": name, **numbers} for name, numbers in measured.items()]))
    return record


def _filled(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows that all have every column; what a row has not is empty."""
    columns = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in columns} for row in rows]


def sets_table(record: Mapping[str, Any]) -> Group:
    """The numbers of all sets as a rich table."""
    sets = record["sets"]
    keys = list(dict.fromkeys(key for numbers in sets.values() for key in numbers))
    table = Table(title=Text("Sets of images"), title_justify="left")
    table.add_column("")
    for name in sets:
        table.add_column(name.replace("_", " "), justify="right")
    for key in keys:
        table.add_row(key, *(f"{numbers[key]:.4g}" if key in numbers else "" for numbers in sets.values()))
    note = "These numbers compare looks. Whether an image is right, only a truth can say."
    if record["settings"]["features"] is None:
        note += " No distances of the sets: no feature network was named (--features)."
    return Group(table, Text(note))


@dataclass(frozen=True)
class _Reader:
    """Reads images with their masks, turned alike."""

    masks: Mapping[str, Path]
    folder: Path | None
    plane: str

    def __call__(self, path: Path, *, masked_as: _Image | None = None) -> _Image:
        volume = read_volume(path)
        if masked_as is not None:
            return _Image(self._turned(volume.data, volume.affine), masked_as.mask, masked_as.pixel_mm)
        if self.folder is None:
            mask = volume.data > 0
        else:
            ((_, name),) = partners({case_name(path): path}, self.masks, f"{self.folder} holds no mask")
            require_same_grid(path, self.masks[name])
            mask = inside(read_volume(self.masks[name]).data)
        if not mask.any():
            raise UHFError(f"{path} shows nothing inside its mask (-mask; without: above 0): correct or remove it")
        spacing = list(standard_spacing(volume.affine, volume.data.shape))
        del spacing[PLANES[self.plane].normal]
        turned = self._turned(mask.astype(np.float32), volume.affine) > 0
        return _Image(self._turned(volume.data, volume.affine), turned, (spacing[0], spacing[1]))

    def _turned(self, data: FloatArray, affine: Any) -> FloatArray:
        turned, _ = standard_axes(data, affine)
        return np.ascontiguousarray(np.moveaxis(turned, PLANES[self.plane].normal, 0))


def _texture(image: _Image) -> dict[str, float]:
    return {
        "roughness": slice_roughness(image.data, image.mask),
        "contrast": tissue_contrast(image.data, image.mask),
    }


def _kept(image: _Image, given: _Image) -> dict[str, float]:
    """What is left of the input."""
    return {
        "shift_pixels": mean_shift(image.data, given.data, image.mask),
        "local_correlation": local_correlation(image.data, given.data, image.mask),
    }


def _slices(
    sets: Mapping[str, Mapping[str, _Image]], network: FeatureNetwork | None
) -> dict[str, dict[str, CaseSlices]]:
    """Slices of all sets by case, of one size in mm and in pixels: those of the high-field images."""
    everything = [image for images in sets.values() for image in images.values()]
    side_mm = max(side * mm for one in everything for side, mm in zip(box_sides(one.mask), one.pixel_mm, strict=True))
    pixel_mm = np.median([image.pixel_mm for image in sets[HIGH_FIELD].values()], axis=0)
    shape = [round(side_mm / mm) for mm in pixel_mm]
    result: dict[str, dict[str, CaseSlices]] = {}
    for name, images in sets.items():
        # made images have the intensities of high field
        scores = _range(list(sets[INPUT if name == INPUT else HIGH_FIELD].values()))
        result[name] = {}
        for case, image in images.items():
            side = [round(side_mm / mm) for mm in image.pixel_mm]
            slices = unit_slices(image.data, image.mask, scores, side=side)
            if side != shape:
                slices = resize(slices, (len(slices), *shape), order=1, anti_aliasing=True).astype(np.float32)
            result[name][case] = CaseSlices(slices, None if network is None else network.describe(slices))
    return result


def _range(images: Sequence[_Image]) -> tuple[float, float]:
    values = [image.data[image.mask] for image in images]
    low, high = (float(np.mean([np.percentile(one, percentile) for one in values])) for percentile in (LOW, HIGH))
    if not low < high:
        raise UHFError("the images have no contrast inside their masks: check images and masks")
    return low, high
