"""Labels that a trained model gives the keeper subjects: what their images bring without a keeper.

The condition that labels has as few true labels as the one that learns from its labels. `high_plain` labels the
high-field images, whose labels are then those of the low-field image of the same subject; `plain` labels the low-field
images themselves.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from experiment.conditions import CONDITIONS, HIGH, LOW
from experiment.data import simulated_folder, subjects
from experiment.settings import CONFIGURATION, HIGH_FIELD, PLANS, Places, Settings, Task
from experiment.training import preprocess, trained_model_predicts

FILES_BESIDE = ("dataset.json", "dataset_fingerprint.json", "nnUNetPlans.json", f"{PLANS}.json", "splits_final.json")


def roots(place: Path) -> dict[str, str]:
    """nnU-Net's folders of a dataset whose keeper subjects are labelled by a model; its name is that of LOW."""
    return {name: str(place / name) for name in ("nnUNet_raw", "nnUNet_preprocessed")}


def label_keeper_subjects(
    settings: Settings, task: Task, places: Places, *, source: str, labels: int, seed: int, device: str
) -> None:
    """Predict the keeper subjects, and preprocess LOW once more with what was predicted in the place of their labels.

    Works in the environment of a training of the source condition.
    """
    condition, place = CONDITIONS[source], places.pseudo(source, labels, seed)
    shutil.rmtree(place, ignore_errors=True)
    cases = subjects(settings, task, places)["keeper"]
    folder = (
        places.images(HIGH_FIELD) / "keeper"
        if condition.dataset == HIGH
        else simulated_folder(places, "keeper", settings.trained, 0)
    )
    images, predicted = place / "images", place / "predicted"
    images.mkdir(parents=True)
    for case in cases:
        (images / f"{case}_0000.nii.gz").symlink_to(folder / f"{case}.nii.gz")
    trained_model_predicts(
        dataset=condition.dataset,
        configuration=CONFIGURATION,
        fold=settings.fold(condition, labels, seed),
        trainer=condition.trainer,
        plans=PLANS,
        images=images,
        output=predicted,
        device=device,
    )
    _write_dataset(places, place, {case: predicted / f"{case}.nii.gz" for case in cases})
    preprocess(LOW, CONFIGURATION, PLANS, environment=roots(place))


def _write_dataset(places: Places, place: Path, predicted: Mapping[str, Path]) -> None:
    """The raw dataset LOW with some labels replaced, and what nnU-Net knows of it already."""
    raw, ready = (place / name / LOW for name in ("nnUNet_raw", "nnUNet_preprocessed"))
    original = places.out / "nnUNet_raw" / LOW
    (raw / "labelsTr").mkdir(parents=True)
    ready.mkdir(parents=True)
    (raw / "imagesTr").symlink_to(original / "imagesTr")
    for path in (original / "labelsTr").glob("*.nii.gz"):
        case = path.name.removesuffix(".nii.gz")
        shutil.copyfile(predicted.get(case, path), raw / "labelsTr" / path.name)
    shutil.copyfile(original / "dataset.json", raw / "dataset.json")
    for name in FILES_BESIDE:
        shutil.copyfile(places.out / "nnUNet_preprocessed" / LOW / name, ready / name)
