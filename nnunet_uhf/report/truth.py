"""Where the true label maps and the images of the compared cases lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.evaluation.label_scores import MEAN
from nnunet_uhf.imageio.volumes import read_any_labels, volume_files, volume_of
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.nnunet.labels import Labels, read_structures, structures_of_values
from nnunet_uhf.report.entries import Entry

_ARGUMENTS = "predict_from_raw_data_args.json"


def find_references(entries: Sequence[Entry], reference: Path | None) -> tuple[Path, dict[str, Path]]:
    """The folder of the true label maps, and its files by case.

    Without ``reference`` it is that of the first model folder's dataset: ``gt_segmentations`` in nnUNet_preprocessed,
    which nnU-Net itself validates against, else ``labelsTr`` in nnUNet_raw.

    Raises:
        UHFError: there is none.
    """
    if reference is not None:
        return reference, volume_files(reference)
    model = next((entry for entry in entries if entry.is_model), None)
    if model is None or model.plans is None:
        raise UHFError("Folders of predictions (-pred) need the folder of the true label maps: add -ref FOLDER")
    dataset = str(model.plans.get("dataset_name", model.folder.resolve().parent.name))
    tried = []
    for variable, name in (("nnUNet_preprocessed", "gt_segmentations"), ("nnUNet_raw", "labelsTr")):
        if os.environ.get(variable):
            tried.append(Path(os.environ[variable]) / dataset / name)
            if tried[-1].is_dir():
                return tried[-1], volume_files(tried[-1])
    where = " or ".join(map(str, tried)) or "nnUNet_preprocessed or nnUNet_raw (neither variable is set)"
    raise UHFError(f"The true label maps of {dataset} are not in {where}: set the variables, or add -ref FOLDER")


def find_task(
    entries: Sequence[Entry], folder: Path, references: Mapping[str, Path], *, odd: Odd, named: Path | None = None
) -> Labels:
    """The structures to compare, as the dataset.json of the entries (or the one beside the references) names them.

    `named` is a dataset.json that counts before all others.

    Without any, every label value of the true label maps is a structure; `odd` keeps those that cannot be read.

    Raises:
        UHFError: two entries that do not mean the same by their labels.
    """
    if named is not None:
        return _structures(read_json(named, advice="name a dataset.json with the entry labels (-djson)"), named)
    tasks = [
        (entry, _structures(entry.dataset_json, entry.folder / "dataset.json"))
        for arm in entries
        for entry in arm.trainings
        if entry.dataset_json is not None
    ]
    for entry, task in tasks[1:]:
        if task != tasks[0][1]:
            raise UHFError(
                f"{entry.folder} and {tasks[0][0].folder} have different labels in dataset.json: compare models of "
                "one task"
            )
    if tasks:
        return tasks[0][1]
    described = folder.parent / "dataset.json"
    if described.is_file():
        return _structures(read_json(described, advice="repair or remove it"), described)
    values: set[int] = set()
    for case, path in references.items():
        with odd.kept(case):
            values.update(map(int, np.unique(read_any_labels(path)[0])))
    odd.require_others(len(references))
    return structures_of_values(values)


def _structures(dataset_json: Mapping[str, Any], where: Path) -> Labels:
    """The structures of a dataset.json, none of which has the name of their mean."""
    task = read_structures(dataset_json, where=where)
    if any(structure.name.casefold() == MEAN for structure in task.structures):
        raise UHFError(f"{where} calls a label {MEAN!r}, which the report uses for the mean of all; rename it")
    return task


class ImageFinder:
    """Finds the image that a case was segmented from; None where it is not known.

    Looks in the folder given, else where nnU-Net has the images: imagesTr and imagesTs of the dataset, the folder that
    nnUNetv2_predict noted beside its predictions, the image folder beside a reference folder labelsTr or labelsTs.
    """

    def __init__(self, entries: Sequence[Entry], reference: Path, images: Path | None) -> None:
        if images is not None and not images.is_dir():
            raise UHFError(f"{images} is not a folder: name the folder of the images (-i)")
        self.folders = [images] if images is not None else _image_folders(entries, reference)
        channels = [block.guide_channel for entry in entries for block in entry.blocks.values()]
        #: the channel that the keeper sees, where there is one
        self.channel = next((channel for channel in channels if channel is not None), 0)

    def __call__(self, case: str) -> Path | None:
        """The file of the case: CASE_0000 in nnU-Net's way, or CASE alone."""
        for folder in self.folders:
            for stem in (f"{case}_{self.channel:04d}", case):
                if (path := volume_of(folder, stem)) is not None:
                    return path
        return None


def _image_folders(entries: Sequence[Entry], reference: Path) -> list[Path]:
    candidates = []
    if reference.name.startswith("labels"):
        candidates.append(reference.parent / reference.name.replace("labels", "images", 1))
    for entry in entries:
        if entry.is_model and entry.plans is not None and os.environ.get("nnUNet_raw"):  # noqa: SIM112 - nnU-Net's name
            dataset = Path(os.environ["nnUNet_raw"]) / str(entry.plans.get("dataset_name"))  # noqa: SIM112
            candidates += [dataset / "imagesTr", dataset / "imagesTs"]
        elif (entry.folder / _ARGUMENTS).is_file():
            noted = read_json(entry.folder / _ARGUMENTS, advice="repair or remove it")
            source = noted.get("list_of_lists_or_source_folder")
            candidates += [Path(source)] if isinstance(source, str) else []
    return [folder for folder in dict.fromkeys(candidates) if folder.is_dir()]
