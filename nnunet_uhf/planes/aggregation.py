"""The weighted mean of what models of three slice planes predict: axial 0.4, coronal 0.4, sagittal 0.2.

With equal weights it is ``nnUNetv2_ensemble``, bit for bit. Weights: arXiv:2402.08409. Merged sides: ours.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.configuration import default_num_processes
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from rich.console import Console
from rich.progress import Progress

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import ENDINGS
from nnunet_uhf.imageio.nifti import require_same_grid
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.nnunet.labels import class_names
from nnunet_uhf.nnunet.model_folder import DATASET_JSON, PLANS_JSON, description_of
from nnunet_uhf.nnunet.probabilities import PREDICT, read_probabilities
from nnunet_uhf.planes.classes import is_merged, match_classes, read_merged
from nnunet_uhf.planes.mean import mean_probabilities
from nnunet_uhf.workers import each_done

#: arXiv:2402.08409, experiments on MALC.
WEIGHTS = {"axial": 0.4, "coronal": 0.4, "sagittal": 0.2}
RECORD_NAME = "aggregation.json"


@dataclass(frozen=True)
class View:
    """Predictions of one model: their folder, and what nnU-Net needs to know of them."""

    folder: Path
    plans: dict[str, Any]
    dataset_json: dict[str, Any]

    @property
    def label_manager(self) -> Any:
        """nnU-Net's, which knows labels, regions and the ignore label."""
        return PlansManager(self.plans).get_label_manager(self.dataset_json)

    @property
    def names(self) -> list[str]:
        """Class names in the order of the probabilities' channels."""
        return class_names(self.dataset_json, self.label_manager)


@dataclass(frozen=True)
class _Case:
    """One case as a worker gets it: per view a file, a weight and the output channels of its channels."""

    name: str
    folders: list[Path]
    weights: list[float]
    targets: list[list[tuple[int, ...]]]
    reference: View
    output: Path
    save_probabilities: bool


def aggregate_views(
    folders: Sequence[Path],
    output: Path,
    *,
    weights: Sequence[float] | None = None,
    sagittal_merged: Path | None = None,
    save_probabilities: bool = False,
    num_processes: int = default_num_processes,
    console: Console | None = None,
) -> list[Path]:
    """Write the segmentation of the weighted mean of several views' probabilities, for every case.

    Args:
        folders: what ``nnUNetv2_predict --save_probabilities`` wrote, one a view; three are axial, coronal, sagittal
            unless their plans say otherwise.
        output: new folder: segmentations, dataset.json, plans.json and a record of weights and classes.
        weights: one a folder, of any sum; by default 0.4, 0.4 and 0.2 for axial, coronal and sagittal.
        sagittal_merged: JSON file that says which classes those of the sagittal model merge; without it, names do (see
            :func:`nnunet_uhf.planes.classes.match_classes`).
        save_probabilities: also write the mean, as nnU-Net does (``.npz``).
        num_processes: cases that are worked on at the same time.
        console: for the progress bar and for what is merged.

    Returns:
        The segmentations written.

    Raises:
        UHFError: folders that do not belong together, damaged or missing files, unusable weights.
    """
    console = console or Console(stderr=True)
    views = [_read_view(Path(folder)) for folder in folders]
    planes = _planes_of(views)
    used = _checked_weights(weights, planes)
    reference = next((view for view, plane in zip(views, planes, strict=True) if plane != "sagittal"), views[0])
    merged = None
    if sagittal_merged is not None:
        if "sagittal" not in planes:
            raise UHFError(f"{sagittal_merged} is for a sagittal view, but no folder is one (-i)")
        merged = read_merged(read_json(sagittal_merged, advice="correct --sagittal-merged"), where=str(sagittal_merged))
    targets = [
        _targets(view, reference, merged if plane == "sagittal" else None)
        for view, plane in zip(views, planes, strict=True)
    ]
    if not any(weight > 0 and not is_merged(group) for weight, group in zip(used, targets, strict=True)):
        raise UHFError("no view that tells the sides apart has a weight above 0: change --weights")
    _tell_merged(console, views, targets, reference)
    names = _common_cases(views, ending=reference.dataset_json["file_ending"])
    with appearing_together(output) as (staged,):
        cases = [
            _Case(name, [view.folder for view in views], used, targets, reference, staged, save_probabilities)
            for name in names
        ]
        with Progress(console=console) as bar:
            task = bar.add_task("aggregate", total=len(cases))
            for _ in each_done(_aggregate_case, cases, num_processes):
                bar.advance(task)
        _describe(staged, views, planes, used, targets, reference)
    return [output / f"{name}{reference.dataset_json['file_ending']}" for name in names]


def _read_view(folder: Path) -> View:
    if not folder.is_dir():
        raise UHFError(f"{folder} is not a folder: name the folders of the predictions (-i)")
    paths = [description_of(folder, name) for name in (PLANS_JSON, DATASET_JSON)]
    plans, dataset_json = (read_json(path, advice=PREDICT) for path in paths)
    if dataset_json.get("file_ending") not in ENDINGS:
        raise UHFError(f"{paths[1]}: file_ending is not {' or '.join(ENDINGS)}; only NIfTI is supported")
    return View(folder, plans, dataset_json)


def _planes_of(views: Sequence[View]) -> list[str | None]:
    """The plane of every view: as its plans say; of three that say nothing, by their order."""
    if len(views) < 2:
        raise UHFError("one folder is no three views: name those of the axial, coronal and sagittal predictions (-i)")
    known = [view.plans.get("plane") for view in views]
    if len(views) != 3 or None not in known:
        return known
    for view, said, place in zip(views, known, WEIGHTS, strict=True):
        if said not in (None, place):
            raise UHFError(f"{view.folder} is of a {said} model, not {place}: the order is axial coronal sagittal (-i)")
    return list(WEIGHTS)


def _checked_weights(weights: Sequence[float] | None, planes: Sequence[str | None]) -> list[float]:
    """Weights that sum to one."""
    if weights is None:
        if len(set(planes)) < len(planes) or not set(planes) <= set(WEIGHTS):
            raise UHFError(
                "the planes of the folders are not known or not distinct: give one weight a folder (--weights)"
            )
        weights = [WEIGHTS[str(plane)] for plane in planes]
    if len(weights) != len(planes):
        raise UHFError(f"{len(planes)} folders (-i) but {len(weights)} weights (--weights): give one a folder")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights) > 0:
        raise UHFError("--weights: numbers of 0 and above, not all 0")
    return [weight / sum(weights) for weight in weights]


def _targets(view: View, reference: View, merged: Mapping[str, Sequence[str]] | None) -> list[tuple[int, ...]]:
    keys = ("labels", "regions_class_order")
    if view.label_manager.has_regions or reference.label_manager.has_regions:
        # a region's probability has its own threshold: there is nothing that sides could share
        if merged is not None or any(view.dataset_json.get(key) != reference.dataset_json.get(key) for key in keys):
            raise UHFError(f"{view.folder}: regions cannot be merged, and must be those of {reference.folder}")
        return [(index,) for index in range(len(view.names))]
    return match_classes(reference.names, view.names, merged=merged, where=str(view.folder))


def _common_cases(views: Sequence[View], *, ending: str) -> list[str]:
    """Cases that every folder holds; UHFError when one lacks what another has."""
    found = [{path.stem for path in view.folder.glob("*.npz") if path.name[0] != "."} for view in views]
    for view, cases in zip(views, found, strict=True):
        if missing := sorted(set().union(*found) - cases):
            raise UHFError(f"{view.folder / missing[0]}.npz is missing, which another view has: {PREDICT}")
        for case in sorted(cases):
            if not (view.folder / f"{case}{ending}").is_file():
                raise UHFError(f"{view.folder / case}{ending} is missing beside the .npz: {PREDICT}")
    if not found[0]:
        raise UHFError(f"{views[0].folder} holds no probabilities (*.npz): {PREDICT}")
    return sorted(found[0])


def _aggregate_case(case: _Case) -> None:
    ending = case.reference.dataset_json["file_ending"]
    pattern = case.reference.folder / f"{case.name}{ending}"
    for folder in case.folders:
        require_same_grid(pattern, folder / f"{case.name}{ending}")
    reader = PlansManager(case.reference.plans).image_reader_writer_class()
    # geometry from the segmentation, not from nnU-Net's .pkl: a pickle can run code when it is opened
    try:
        segmentation, properties = reader.read_seg(str(pattern))
    except RuntimeError:
        raise UHFError(f"{pattern} cannot be read: {PREDICT} again") from None
    order = sorted(range(len(case.folders)), key=lambda index: is_merged(case.targets[index]))
    files = [case.folders[index] / f"{case.name}.npz" for index in order]
    targets = [case.targets[index] for index in order]
    shape = segmentation.shape[1:]
    mean = mean_probabilities(
        (read_probabilities(file, (len(group), *shape)) for file, group in zip(files, targets, strict=True)),
        [case.weights[index] for index in order],
        targets,
    )
    labels = case.reference.label_manager.convert_probabilities_to_segmentation(mean)
    reader.write_seg(labels, str(case.output / f"{case.name}{ending}"), properties)
    if case.save_probabilities:
        np.savez_compressed(case.output / f"{case.name}.npz", probabilities=mean)
        note = case.reference.folder / f"{case.name}.pkl"
        if note.is_file():  # unread: nnUNetv2_ensemble asks for it
            shutil.copyfile(note, case.output / note.name)


def _tell_merged(
    console: Console, views: Sequence[View], targets: Sequence[Sequence[tuple[int, ...]]], reference: View
) -> None:
    for view, groups in zip(views, targets, strict=True):
        for name, group in zip(view.names, groups, strict=True):
            if len(group) > 1:
                parts = ", ".join(reference.names[index] for index in group)
                console.print(f"{view.folder.name}: {name} is shared out among {parts}", markup=False, highlight=False)


def _describe(
    folder: Path,
    views: Sequence[View],
    planes: Sequence[str | None],
    weights: Sequence[float],
    targets: Sequence[Sequence[tuple[int, ...]]],
    reference: View,
) -> None:
    """Write dataset.json and plans.json, which nnU-Net's commands ask for, and what was done."""
    entries = [
        {
            "folder": view.folder.name,
            "plane": plane,
            "weight": weight,
            "merged": {
                name: [reference.names[index] for index in group]
                for name, group in zip(view.names, groups, strict=True)
                if len(group) > 1
            },
        }
        for view, plane, weight, groups in zip(views, planes, weights, targets, strict=True)
    ]
    plans = {key: value for key, value in reference.plans.items() if key != "plane"}
    contents = {DATASET_JSON: reference.dataset_json, PLANS_JSON: plans, RECORD_NAME: {"views": entries}}
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=4), encoding="utf-8")
