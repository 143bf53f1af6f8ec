"""The demo's own steps: write phantoms, write the two raw datasets, cut nnU-Net's plans down to a small network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib

from nnunet_uhf.demo.settings import (
    PAIRS,
    PLANNED,
    PLANS,
    SOURCE_FIELD_T,
    TARGET_FIELD_T,
    TISSUES_DATASET,
    DemoSettings,
    Folders,
)
from nnunet_uhf.demo.subjects import TISSUES, make_subject
from nnunet_uhf.preprocessing.datasets.write import write_paired_dataset, write_segmentation_dataset

LABEL_NAMES = {"background": 0, **TISSUES}
SOURCE_CHANNEL, TARGET_CHANNEL = "LF", "HF"
SEED_STEP = 1000  # subjects of two demo seeds never share a subject seed


def write_phantoms(settings: DemoSettings, folders: Folders) -> None:
    """Make every subject: its high-field phantom image and its tissue labels, as NIfTI."""
    for kind in ("high_field", "labels"):
        folders.phantoms(kind).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(settings.names):
        subject = make_subject(
            name,
            seed=SEED_STEP * settings.seed + number,
            shape=settings.shape,
            spacing_mm=settings.spacing_mm,
        )
        for kind, data in (("high_field", subject.image), ("labels", subject.labels)):
            image = nib.Nifti1Image(data, subject.affine)
            image.header.set_xyzt_units("mm")
            nib.save(image, folders.phantoms(kind) / f"{name}.nii.gz")


def write_datasets(settings: DemoSettings, folders: Folders) -> None:
    """Write the pairs (to train the keeper) and the low-field segmentation task as raw nnU-Net datasets."""

    def files(kind: str, names: list[str]) -> dict[str, Path]:
        return {name: folders.phantoms(kind) / f"{name}.nii.gz" for name in names}

    for dataset in (PAIRS, TISSUES_DATASET):  # left by a run that was stopped in this stage
        shutil.rmtree(folders.raw / dataset, ignore_errors=True)
    write_paired_dataset(
        folders.raw / PAIRS,
        sources=files("low_field", settings.training),
        targets=files("high_field", settings.training),
        labels=files("labels", settings.training),
        label_names=LABEL_NAMES,
        source_channel=SOURCE_CHANNEL,
        target_channel=TARGET_CHANNEL,
        source_field_T=SOURCE_FIELD_T,
        target_field_T=TARGET_FIELD_T,
        route="simulated",
        architecture={"base_features": settings.keeper_features, "kernel_size": settings.keeper_kernel},
    )
    write_segmentation_dataset(
        folders.raw / TISSUES_DATASET,
        channels={SOURCE_CHANNEL: files("low_field", settings.training)},
        labels=files("labels", settings.training),
        label_names=LABEL_NAMES,
        test_channels={SOURCE_CHANNEL: files("low_field", settings.test)},
    )
    folders.test_labels.mkdir()
    for path in files("labels", settings.test).values():
        shutil.copyfile(path, folders.test_labels / path.name)


def write_small_plans(settings: DemoSettings, folders: Folders) -> None:
    """Write plans with a small network beside nnU-Net's own, for both datasets.

    The preprocessed data stay those of the original plans, whose `data_identifier` the small ones keep. Both datasets
    get the patches of the segmentation task: a keeper should be trained on the patches it will see.
    """
    planned = {
        dataset: json.loads((folders.preprocessed / dataset / f"{PLANNED}.json").read_text())
        for dataset in (PAIRS, TISSUES_DATASET)
    }
    patches = patch_sizes(
        planned[TISSUES_DATASET],
        settings.configurations,
        parts=settings.patch_part,
        stages=settings.stages,
    )
    for dataset, plans in planned.items():
        small = shrink_plans(
            plans, patches=patches, features=settings.features, batch=settings.batch, stages=settings.stages
        )
        (folders.preprocessed / dataset / f"{PLANS}.json").write_text(json.dumps(small, indent=4))


def patch_sizes(
    plans: dict[str, Any], configurations: Sequence[str], *, parts: Mapping[str, float], stages: int
) -> dict[str, list[int]]:
    """Patch of each configuration: that part of the median image, in whole steps of the network's last stage."""
    step = 2 ** (stages - 1)
    sizes = {}
    for name in configurations:
        configuration = plans["configurations"][name]
        median = configuration["median_image_size_in_voxels"][-len(configuration["spacing"]) :]
        sizes[name] = [int(max(2 * step, parts[name] * size // step * step)) for size in median]
    return sizes


def shrink_plans(
    plans: dict[str, Any],
    *,
    patches: Mapping[str, list[int]],
    features: Mapping[str, int],
    batch: Mapping[str, int],
    stages: int,
) -> dict[str, Any]:
    """Plans of the demo's name, of the configurations that have a patch: `stages` stages that start with `features`."""
    configurations = {}
    for name in patches:
        configuration = dict(plans["configurations"][name])
        dim = len(configuration["spacing"])
        configuration["patch_size"] = patches[name]
        configuration["batch_size"] = batch[name]
        kwargs = {
            "n_stages": stages,
            "features_per_stage": [features[name] * 2**stage for stage in range(stages)],
            "strides": [[1] * dim, *([[2] * dim] * (stages - 1))],
            "kernel_sizes": [[3] * dim] * stages,
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
        }
        architecture = dict(configuration["architecture"])
        architecture["arch_kwargs"] = {**architecture["arch_kwargs"], **kwargs}
        configuration["architecture"] = architecture
        configurations[name] = configuration
    return {**plans, "plans_name": PLANS, "configurations": configurations}
