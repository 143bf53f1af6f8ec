"""A made dataset of two domains: different subjects at low and high field, one of them at both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from helpers.tiny_data import DatasetSpec, TinyDataset, case_affine, make_channel, make_labels, write_image
from helpers.workspace import preprocess

UNPAIRED: dict[str, Any] = {
    "source": "LF",
    "target": "HF",
    "source_field_T": 0.36,
    "target_field_T": 3.0,
}
ARCHITECTURE: dict[str, Any] = {
    "features": 4,
    "blocks": 1,
    "judge_features": 4,
    "widths": [4, 4, 4, 8, 8],
    "encoder": {"width": 16, "depth": 1, "heads": 2, "embedding": 16, "side": 32},
}
TRAINER_CASES = {"LF": 4, "HF": 5}
SHAPE = (14, 40, 36)


def write_unpaired(folder: Path, *, spacing: float = 1.0, extra: dict[str, Any] | None = None) -> DatasetSpec:
    """Raw dataset 530: low-field cases, high-field cases, and one subject of both, held out."""
    import json

    spec = DatasetSpec(530, "TinyUnpaired", channels=("MR",), shape=SHAPE, configurations=("2d",))
    root, domains = folder / spec.name, {}
    subjects = [(domain, f"{domain}_{index}") for domain, count in TRAINER_CASES.items() for index in range(count)]
    for number, (domain, case) in enumerate([*subjects, ("LF", "LF_both"), ("HF", "HF_both")]):
        seed = 900 if case.endswith("both") else number
        random = np.random.default_rng(seed)
        labels = (make_labels(SHAPE, random) > 0).astype(np.uint8)
        tissues = make_labels(SHAPE, np.random.default_rng(seed))
        affine = case_affine((3.0, spacing, spacing), SHAPE)
        write_image(root / "imagesTr" / f"{case}_0000.nii.gz", make_channel(tissues, domain, random), affine)
        write_image(root / "labelsTr" / f"{case}.nii.gz", labels, affine)
        domains[case] = domain
    unpaired = {**UNPAIRED, "domains": domains, "held_out_pairs": {"LF_both": "HF_both"}}
    description = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "brain": 1},
        "numTraining": len(domains),
        "file_ending": ".nii.gz",
        "uhf": {"unpaired": {**unpaired, **(extra or {})}, "architecture": ARCHITECTURE},
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return spec


def prepare_unpaired(root: Path, **options: Any) -> TinyDataset:
    """Planned and preprocessed, patches of 48x48; nnU-Net's folders are below root."""
    spec = write_unpaired(root / "raw", **options)
    dataset = TinyDataset(spec, root / "raw" / spec.name, root / "preprocessed" / spec.name)

    def small(plans: dict[str, Any]) -> dict[str, Any]:
        plans["configurations"]["2d"].update(patch_size=[48, 48], batch_size=4)
        return plans

    preprocess(root, dataset, small)
    return dataset


def described_otherwise(dataset: TinyDataset, **uhf: dict[str, Any]) -> TinyDataset:
    """The same dataset, of which dataset.json says more: `unpaired={...}`, `architecture={...}`."""
    description = dataset.dataset_json()
    changed = {name: {**description["uhf"].get(name, {}), **entries} for name, entries in uhf.items()}

    class Described(TinyDataset):
        def dataset_json(self) -> dict[str, Any]:
            return {**description, "uhf": {**description["uhf"], **changed}}

    return Described(dataset.spec, dataset.raw, dataset.preprocessed)
