"""Pictures of every pair of a raw dataset, and a page that shows them all: to find what went wrong before training."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from skimage.metrics import normalized_mutual_information

import nnunet_uhf
from nnunet_uhf.enhancement_task import EnhancementTask, read_task
from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks import KnowledgeKeeper, UHFTeacher
from nnunet_uhf.nifti_files import ENDINGS
from nnunet_uhf.nnunet_files import read_json
from nnunet_uhf.preprocessing.nifti import FloatArray, appearing_together, read_volume, require_same_grid
from nnunet_uhf.preprocessing.qc_picture import draw_pair, make_pair

PAGE_NAME = "index.html"
FENCE = 1.5  # times the interquartile range below the lower quartile: Tukey's rule for outliers
ENOUGH_CASES = 8  # quartiles of fewer mean little


@dataclass(frozen=True)
class PairFiles:
    """Where the images and the label map of a case lie."""

    case: str
    source: Path
    target: Path
    label: Path


@dataclass(frozen=True)
class Shown:
    """What the page says of a case."""

    case: str
    picture: str
    shape: str
    spacing: str
    mask_ml: float
    likeness: float
    suspect: bool = False


def write_pair_pictures(dataset_folder: Path, output: Path, *, console: Console | None = None) -> Path:
    """Draw every training case of a dataset made of pairs, and a contact sheet `index.html` that shows them.

    A picture shows source, target, the target's edges on the source and the outline of the mask (labels above 0), in
    three planes through the mask's centre, in mm, with the directions marked. The page also gives the normalised
    mutual information of both images in the mask's box (1: independent, 2: one tells the other) and points out the
    cases that fall below the others. The output folder appears complete or not at all.

    Args:
        dataset_folder: raw nnU-Net dataset with a `uhf` object in dataset.json and NIfTI files.
        output: new or empty folder.
        console: shows a progress bar when given.

    Returns:
        Path of `index.html`.

    Raises:
        UHFError: no such dataset, no pairs, a missing or damaged file, unequal grids, an empty mask.
    """
    if not dataset_folder.is_dir():
        raise UHFError(f"{dataset_folder} is not a folder: name a raw nnU-Net dataset, DatasetXXX_NAME")
    description = read_json(dataset_folder / "dataset.json", advice="name a raw nnU-Net dataset, DatasetXXX_NAME")
    task = read_task(description, dataset=str(dataset_folder), networks=(UHFTeacher, KnowledgeKeeper))
    files = _find_pairs(dataset_folder, description, task)
    with appearing_together(output) as (folder,):
        progress = files if console is None else track(files, description="drawing pairs", console=console)
        shown = [_show(pair, folder, task) for pair in progress]
        page = _render(_point_out(shown), dataset_folder.absolute().name, task)
        (folder / PAGE_NAME).write_text(page, encoding="utf-8")
    return output / PAGE_NAME


def suspects(values: list[float]) -> list[bool]:
    """Which values lie below Tukey's lower fence; none among fewer than 8."""
    if len(values) < ENOUGH_CASES:
        return [False] * len(values)
    lower, upper = np.percentile(values, [25, 75])
    return [bool(value < lower - FENCE * (upper - lower)) for value in values]


def _find_pairs(folder: Path, description: dict[str, Any], task: EnhancementTask) -> list[PairFiles]:
    """The cases of the dataset as nnU-Net finds them, sorted by name."""
    ending = description.get("file_ending")
    if ending not in ENDINGS:
        raise UHFError(f"{folder / 'dataset.json'} has file_ending {ending!r}: pictures need {' or '.join(ENDINGS)}")
    source, target = task.source_channel, task.target_channel
    if "dataset" in description:
        from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

        listed = get_filenames_of_train_images_and_targets(str(folder), description)
        for case, files in listed.items():
            if len(files["images"]) <= max(source, target):
                raise UHFError(f"{folder / 'dataset.json'} lists too few images of case {case}: name one a channel")
        return [
            PairFiles(case, Path(files["images"][source]), Path(files["images"][target]), Path(files["label"]))
            for case, files in sorted(listed.items())
        ]
    images, labels = folder / "imagesTr", folder / "labelsTr"
    suffix = f"_{source:04d}{ending}"
    cases = sorted(path.name.removesuffix(suffix) for path in images.glob(f"*{suffix}"))
    if not cases:
        raise UHFError(f"{images} holds no file that ends in {suffix}, the source channel {task.source}: add the cases")
    return [
        PairFiles(case, images / f"{case}{suffix}", images / f"{case}_{target:04d}{ending}", labels / f"{case}{ending}")
        for case in cases
    ]


def _show(files: PairFiles, folder: Path, task: EnhancementTask) -> Shown:
    """Draw one case."""
    require_same_grid(files.source, files.target)
    require_same_grid(files.source, files.label)
    source, target, label = (read_volume(path) for path in (files.source, files.target, files.label))
    mask = label.data > 0
    if not mask.any():
        raise UHFError(f"{files.label} is empty: mark the brain, or remove case {files.case}")
    pair = make_pair(source.data, target.data, mask, source.affine)
    spacing = " x ".join(f"{size:.3g}" for size in pair.spacing_mm)
    shape = " x ".join(str(n) for n in pair.mask.shape)
    name = f"{files.case}.png"
    draw_pair(
        pair,
        folder / name,
        title=f"{files.case}   {shape} voxels of {spacing} mm",
        source_name=task.source,
        target_name=task.target,
    )
    return Shown(
        case=files.case,
        picture=urllib.parse.quote(name),
        shape=shape,
        spacing=spacing,
        mask_ml=float(mask.sum() * np.prod(pair.spacing_mm) / 1000),
        likeness=likeness(pair.source, pair.target, pair.mask),
    )


def likeness(source: FloatArray, target: FloatArray, mask: NDArray[np.bool_]) -> float:
    """Normalised mutual information (Studholme et al. 1999), 1 to 2, of two volumes (X, Y, Z) in the mask's box.

    Does not ask which tissue is the brighter one, so it compares contrasts. 1 where an image is constant.
    """
    where = np.argwhere(mask)
    box = tuple(slice(a, b + 1) for a, b in zip(where.min(axis=0), where.max(axis=0), strict=True))
    first, second = source[box], target[box]
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 1.0
    return float(normalized_mutual_information(first, second, bins=64))


def _point_out(shown: list[Shown]) -> list[Shown]:
    """The cases with those marked that are less alike than the others."""
    marks = suspects([case.likeness for case in shown])
    return [Shown(**{**vars(case), "suspect": mark}) for case, mark in zip(shown, marks, strict=True)]


def _render(shown: list[Shown], dataset: str, task: EnhancementTask) -> str:
    """The page as HTML text; pictures are files beside it."""
    loader = jinja2.PackageLoader("nnunet_uhf.preprocessing", ".")
    engine = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return engine.get_template("qc.html").render(
        cases=shown, dataset=dataset, task=task, version=nnunet_uhf.__version__, enough=ENOUGH_CASES
    )
