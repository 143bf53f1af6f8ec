"""Pictures of every case of a raw dataset, and a page that shows them all: to find what went wrong before training."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.imageio.label_maps import label_volume
from nnunet_uhf.imageio.nifti import Volume, read_volume, require_same_grid
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.imageio.planes import standard_axes, standard_spacing
from nnunet_uhf.nnunet.dataset_json import channel_names
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.nnunet.labels import Labels, read_structures
from nnunet_uhf.pages.engine import render_page
from nnunet_uhf.preprocessing.qc.cases import CaseFiles, find_cases, recorded_alignment
from nnunet_uhf.preprocessing.qc.findings import (
    ENOUGH_CASES,
    exchanged_sides,
    likeness,
    suspects,
    unusual_volumes,
    volumes_ml,
    written_ml,
)
from nnunet_uhf.preprocessing.qc.pictures import draw_labelled, draw_pair, make_pair, structure_colours
from nnunet_uhf.routes.simulated import SIMULATED
from nnunet_uhf.routes.table import is_of_pairs, read_task
from nnunet_uhf.routes.task import EnhancementTask

PAGE_NAME = "index.html"


@dataclass(frozen=True)
class Shown:
    """What the page says of a case: facts, and warnings that want a look; no picture where it could not be read."""

    case: str
    picture: str | None
    facts: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def write_pictures(
    dataset_folder: Path, output: Path, *, console: Console | None = None, odd: Odd | None = None
) -> Path:
    """Draw every training case of a raw dataset, and a contact sheet `index.html` that shows them.

    Pictures are three planes through the centre of the labels, in mm, with the directions marked. For pairs they show
    source, target, the target's edges on the source and the outline of the labels; the page has the normalised mutual
    information of both images in the labels' box (1: independent, 2: one tells the other), points out the cases that
    fall below the others, and repeats what `convert paired` measured. For other datasets they show every channel, the
    structures, and their outlines; the page points out structures that are missing, far larger or smaller than in the
    other cases, or on the other side of the patient than their names say. The output folder appears complete or not at
    all.

    Args:
        dataset_folder: raw nnU-Net dataset of NIfTI files; pairs are those that `uhf` in dataset.json names.
        output: new or empty folder.
        console: shows a progress bar when given.
        odd: keeps the cases that cannot be drawn, which the page then names; without it the first of them is an error.

    Returns:
        Path of `index.html`.

    Raises:
        UHFError: no such dataset, a missing or damaged file, unequal grids, pairs without a mask.
    """
    if not dataset_folder.is_dir():
        raise UHFError(f"{dataset_folder} is not a folder: name a raw nnU-Net dataset, DatasetXXX_NAME")
    description = read_json(dataset_folder / "dataset.json", advice="name a raw nnU-Net dataset, DatasetXXX_NAME")
    task = None
    if is_of_pairs(description.get("uhf")):
        task = read_task(description, dataset=str(dataset_folder))
    files = find_cases(dataset_folder, description)
    with appearing_together(output) as (folder,):
        cases = files if console is None else track(files, description="drawing cases", console=console)
        if task is None:
            shown = _labelled(cases, folder, dataset_folder, description, odd)
            where = dataset_folder / "dataset.json"
            legend = structure_colours(read_structures(description, where=where))
        else:
            legend = []
            shown = _pairs(cases, folder, task, recorded_alignment(dataset_folder), odd)
        if odd is not None:
            odd.require_others(len(files))
            shown += [Shown(case, None, (), (str(reason),)) for case, reason in odd.reasons.items()]
            shown.sort(key=lambda one: one.case)
        page = _render(shown, dataset_folder.absolute().name, task, legend)
        (folder / PAGE_NAME).write_text(page, encoding="utf-8")
    return output / PAGE_NAME


def _pairs(
    cases: Iterable[CaseFiles], folder: Path, task: EnhancementTask, alignment: dict[str, list[str]], odd: Odd | None
) -> list[Shown]:
    """Draw pairs; those far less alike than the others, and those that `convert paired` flagged, get warnings.

    Simulated pairs lie on one grid by construction: how alike they are says how they were simulated, and flags nothing.
    """
    shown, alike = [], []
    for files in cases:
        volumes = _read(files, (task.source_channel, task.target_channel), odd, empty=False)
        if volumes is None:
            continue
        source, target, label = volumes
        pair = make_pair(source.data, target.data, label.data > 0, source.affine)
        heading, facts = _describe(files.case, pair.mask, pair.spacing_mm)
        names = {"source_name": task.source, "target_name": task.target}
        draw_pair(pair, folder / f"{files.case}.png", title=heading, **names)
        alike.append(likeness(pair.source, pair.target, pair.mask))
        measured, *reasons = alignment.get(files.case, [""])
        facts += (f"NMI {alike[-1]:.3f}", *filter(None, [measured]))
        shown.append(
            Shown(files.case, _link(files.case), facts, () if task.route == SIMULATED.name else tuple(reasons))
        )
    if task.route == SIMULATED.name:
        return shown
    return [
        replace(one, warnings=("NMI far below the other cases", *one.warnings)) if suspect else one
        for one, suspect in zip(shown, suspects(alike), strict=True)
    ]


def _labelled(
    cases: Iterable[CaseFiles], folder: Path, dataset_folder: Path, description: dict[str, Any], odd: Odd | None
) -> list[Shown]:
    """Draw labelled scans; missing, unusual and exchanged structures get warnings."""
    where = dataset_folder / "dataset.json"
    channels, meaning = channel_names(description, where=where), read_structures(description, where=where)
    names = [name if channels.count(name) == 1 else f"{name} {k}" for k, name in enumerate(channels)]
    members = {structure.name: structure.values for structure in meaning.structures}
    shown, sizes = [], []
    for files in cases:
        volumes = _read(files, range(len(names)), odd, empty=True)
        if volumes is None:
            continue
        *images, label = volumes
        labels = standard_axes(label.data.astype(np.int64), label.affine)[0]
        spacing = standard_spacing(label.affine, label.data.shape)
        heading, facts = _describe(files.case, labels > 0, spacing)
        turned = {name: standard_axes(v.data, v.affine)[0] for name, v in zip(names, images, strict=True)}
        draw_labelled(turned, labels, spacing, folder / f"{files.case}.png", title=heading)
        sizes.append(volumes_ml(labels, members, float(np.prod(spacing))))
        there = sum(volume > 0 for volume in sizes[-1].values())
        facts += (f"{there} of {len(members)} structures",)
        warnings = (*_unnamed(labels, meaning), *exchanged_sides(labels, members))
        shown.append(Shown(files.case, _link(files.case), facts, warnings))
    return [
        replace(one, warnings=(*one.warnings, *sentences))
        for one, sentences in zip(shown, unusual_volumes(sizes), strict=True)
    ]


def _read(files: CaseFiles, channels: Iterable[int], odd: Odd | None, *, empty: bool) -> list[Volume] | None:
    """Volumes of one grid, the last of them the label map; None, and kept, where they cannot be read.

    A label map may be empty where that says something, as that nobody found a lesion.
    """
    paths = [*(files.images[channel] for channel in channels), files.label]
    try:
        for path in paths[1:]:
            require_same_grid(paths[0], path)
        volumes = [*(read_volume(path) for path in paths[:-1]), label_volume(paths[-1])]
        if not empty and not (volumes[-1].data > 0).any():
            raise UHFError(f"{paths[-1]} is empty: mark the brain, or remove the case")
    except UHFError as error:
        if odd is None:
            raise
        odd.reasons[files.case] = error
        return None
    return volumes


def _unnamed(labels: np.ndarray[Any, np.dtype[np.int64]], meaning: Labels) -> list[str]:
    """A warning for label values without a name."""
    unknown = meaning.unknown(np.unique(labels).tolist())
    return [f"label {', '.join(map(str, unknown[:5]))} has no name in dataset.json"] if unknown else []


def _describe(case: str, mask: np.ndarray[Any, Any], spacing_mm: tuple[float, ...]) -> tuple[str, tuple[str, ...]]:
    """Title of a picture, and facts for the page."""
    grid = f"{' x '.join(map(str, mask.shape))} voxels of {' x '.join(f'{size:.3g}' for size in spacing_mm)} mm"
    millilitres = mask.sum() * np.prod(spacing_mm) / 1000
    return f"{case}   {grid}", (f"{grid} (right, anterior, superior)", f"labels {written_ml(millilitres)} ml")


def _link(case: str) -> str:
    return urllib.parse.quote(f"{case}.png")


def _render(shown: list[Shown], dataset: str, task: EnhancementTask | None, legend: Sequence[tuple[str, str]]) -> str:
    """The page as HTML text; pictures are files beside it. `legend`: colour (CSS) and name of the structures."""
    return render_page(
        "nnunet_uhf.preprocessing.qc",
        "qc.html",
        cases=shown,
        dataset=dataset,
        task=task,
        legend=legend,
        version=nnunet_uhf.__version__,
        enough=ENOUGH_CASES,
    )
