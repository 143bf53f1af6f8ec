"""Small made datasets: six subjects of about 40^3 voxels, with an ellipsoid "brain" of three tissues.

Plans are nnU-Net's own, cut down to three stages of 4, 8 and 16 features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter

PLANS = "nnUNetPlans"
RESENC_PLANS = "nnUNetResEncUNetMPlans"
FEATURES = (4, 8, 16)
# mean signal of CSF, grey and white matter; LF and HF differ in contrast, not only in noise
SIGNAL = {
    "LF": (40.0, 95.0, 75.0),
    "HF": (30.0, 75.0, 110.0),
    "T1w": (30.0, 75.0, 110.0),
    "T2w": (120.0, 70.0, 45.0),
}
LABELS = {"background": 0, "CSF": 1, "GM": 2, "WM": 3}
REGIONS = {"background": 0, "brain": [1, 2, 3], "matter": [2, 3], "WM": 3}


@dataclass(frozen=True)
class DatasetSpec:
    """How one tiny dataset looks: which channels, labels, grid and configurations it has."""

    number: int
    title: str
    channels: tuple[str, ...] = ("LF",)
    labels: Mapping[str, Any] = field(default_factory=lambda: dict(LABELS))
    region_order: tuple[int, ...] | None = None
    shape: tuple[int, int, int] = (40, 40, 40)
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    configurations: tuple[str, ...] = ("2d", "3d_fullres")
    planner: str = "ExperimentPlanner"
    plans_name: str = PLANS
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"Dataset{self.number:03d}_{self.title}"


PAIRS = {
    "source": "LF",
    "target": "HF",
    "source_field_T": 0.36,
    "target_field_T": 3.0,
    "route": "paired",
    "architecture": {"base_features": 4},
}
SIMULATED = {
    "target": "HF",
    "target_field_T": 3.0,
    "simulate": {
        "preset": "t1w_0.36T_probable",
        "source": "LF",
        "ratios": [2, 3],
        "noise_scale": [1, 4],
        "reject_outliers": True,
        "tissues": {"csf": 1, "gm": 2, "wm": 3},
    },
    "architecture": {"base_features": 4},
}
MODALITIES = {
    "modalities": {"T1w": 3.0, "T2w": 3.0},
    "thickness": {"ratio": [1, 2.5], "gap": [0, 0.34]},
    "architecture": {"preset": "tiny", "layers": 6, "max_channels": 16, "latent": 16, "image_features": 16},
}
SPECS = {
    "single": DatasetSpec(501, "Tiny"),
    "multi": DatasetSpec(502, "TinyMulti", channels=("T1w", "T2w")),
    "regions": DatasetSpec(503, "TinyRegions", labels=REGIONS, region_order=(1, 2, 3)),
    "ignore": DatasetSpec(504, "TinyIgnore", labels={**LABELS, "ignore": 4}),
    "pairs": DatasetSpec(505, "TinyPairs", channels=("LF", "HF"), extra={"uhf": PAIRS}),
    "cascade": DatasetSpec(506, "TinyCascade", configurations=("2d", "3d_fullres", "3d_lowres")),
    "anisotropic": DatasetSpec(507, "TinyAnisotropic", shape=(40, 40, 18), spacing_mm=(0.8, 0.8, 2.6)),
    "high field": DatasetSpec(509, "TinyHighField", channels=("HF",), extra={"uhf": SIMULATED}),
    "modalities": DatasetSpec(
        511,
        "TinyModalities",
        channels=("T1w", "T2w"),
        shape=(34, 34, 12),
        configurations=("2d",),
        extra={"uhf": MODALITIES},
    ),
    "resenc": DatasetSpec(
        508,
        "TinyResEnc",
        planner="nnUNetPlannerResEncM",
        plans_name=RESENC_PLANS,
        configurations=("3d_fullres",),
    ),
}


@dataclass(frozen=True)
class TinyDataset:
    """A planned and preprocessed tiny dataset on disk."""

    spec: DatasetSpec
    raw: Path
    preprocessed: Path

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def id(self) -> str:
        """The dataset's number as nnU-Net's commands take it with -d."""
        return str(self.spec.number)

    @property
    def plans_file(self) -> Path:
        return self.preprocessed / f"{self.spec.plans_name}.json"

    def plans(self, name: str | None = None) -> dict[str, Any]:
        """A fresh copy of the plans."""
        return json.loads((self.preprocessed / f"{name or self.spec.plans_name}.json").read_text())

    def write_plans(self, plans: Mapping[str, Any]) -> Path:
        """Write plans under their own plans_name."""
        path = self.preprocessed / f"{plans['plans_name']}.json"
        path.write_text(json.dumps(plans, indent=2))
        return path

    def hold_out(self, *cases: str) -> dict[str, list[str]]:
        """Make these the validation cases of fold 0, the only one; returns its split."""
        others = {path.name.removesuffix("_0000.nii.gz") for path in (self.raw / "imagesTr").glob("*_0000.nii.gz")}
        split = {"train": sorted(others - set(cases)), "val": list(cases)}
        (self.preprocessed / "splits_final.json").write_text(json.dumps([split]))
        return split

    def dataset_json(self) -> dict[str, Any]:
        return json.loads((self.preprocessed / "dataset.json").read_text())


def make_labels(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Draw an ellipsoid "brain" with a wavy surface: CSF 1 (rim and middle), GM 2, WM 3; zero elsewhere."""
    axes = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij")
    half = 0.86 + 0.03 * rng.standard_normal(3)
    centre = 0.03 * rng.standard_normal(3)
    radius = np.sqrt(sum(((x - c) / h) ** 2 for x, c, h in zip(axes, centre, half, strict=True)))
    waves = gaussian_filter(rng.standard_normal(shape), 3.0, mode="wrap")
    radius = radius + 0.05 * waves / waves.std()
    labels = np.zeros(shape, np.uint8)
    for upper, label in ((1.0, 1), (0.85, 2), (0.55, 3), (0.2, 1)):
        labels[radius < upper] = label
    return labels


def make_channel(labels: np.ndarray, channel: str, rng: np.random.Generator) -> np.ndarray:
    """Paint labels with a channel's contrast; float32, zero outside the brain; LF is blurred and noisy."""
    image = np.array([0.0, *SIGNAL[channel]])[labels]
    low_field = channel == "LF"
    image = gaussian_filter(image, 1.0 if low_field else 0.4)
    image = image + (6.0 if low_field else 1.5) * rng.standard_normal(labels.shape)
    return (np.maximum(image, 1.0) * (labels > 0)).astype(np.float32)


def case_affine(spacing_mm: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """A world matrix with a flipped first axis and an off-centre origin, as real scans have."""
    steps = np.array([-1.0, 1.0, 1.0]) * np.asarray(spacing_mm)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.asarray(shape) - 1) / 2 + np.array([4.0, -11.0, 7.5])
    return affine


def write_image(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def write_raw_dataset(folder: Path, spec: DatasetSpec, *, training_cases: int = 5, test_cases: int = 1) -> Path:
    """Write a raw nnU-Net dataset: imagesTr, labelsTr, imagesTs, labelsTs and dataset.json."""
    root = folder / spec.name
    for index in range(training_cases + test_cases):
        rng = np.random.default_rng(1000 * spec.number + index)
        part = "Tr" if index < training_cases else "Ts"
        # the second case and the test case have a finer grid, so that resampling has something to do
        finer = index in (1, training_cases)
        shape = tuple(n + 2 if finer else n for n in spec.shape)
        spacing = tuple(0.95 * s if finer else s for s in spec.spacing_mm)
        labels = make_labels(shape, rng)
        affine = case_affine(spacing, shape)
        for number, channel in enumerate(spec.channels):
            image = make_channel(labels, channel, rng)
            write_image(root / f"images{part}" / f"case_{index:02d}_{number:04d}.nii.gz", image, affine)
        if "ignore" in spec.labels:
            unlabelled = gaussian_filter(rng.standard_normal(shape), 3.0) > 0
            labels = np.where(unlabelled & (labels > 0), np.uint8(spec.labels["ignore"]), labels)
        write_image(root / f"labels{part}" / f"case_{index:02d}.nii.gz", labels, affine)
    description: dict[str, Any] = {
        "channel_names": {str(i): name for i, name in enumerate(spec.channels)},
        "labels": dict(spec.labels),
        "numTraining": training_cases,
        "file_ending": ".nii.gz",
        **spec.extra,
    }
    if spec.region_order is not None:
        description["regions_class_order"] = list(spec.region_order)
    (root / "dataset.json").write_text(json.dumps(description, indent=2))
    return root


def shrink_configuration(configuration: dict[str, Any]) -> None:
    """Cut one configuration down to three stages, 4/8/16 features, patches of 32, a batch of 2; in place."""
    spacing = np.asarray(configuration["spacing"], float)
    coarse = [bool(s > 2 * spacing.min()) for s in spacing]
    strides = [[1] * len(spacing), [1 if c else 2 for c in coarse], [2] * len(spacing)]
    architecture = configuration["architecture"]["arch_kwargs"]
    counts = "n_blocks_per_stage" if "n_blocks_per_stage" in architecture else "n_conv_per_stage"
    architecture.update(
        n_stages=len(FEATURES),
        features_per_stage=list(FEATURES),
        strides=strides,
        kernel_sizes=[[3] * len(spacing)] * len(FEATURES),
        n_conv_per_stage_decoder=[1] * (len(FEATURES) - 1),
    )
    architecture[counts] = [1] * len(FEATURES)
    configuration["patch_size"] = [16 if c else 32 for c in coarse]
    configuration["batch_size"] = 2


def shrink_plans(plans: dict[str, Any], *, lowres: bool = False) -> dict[str, Any]:
    """Cut configurations down to test size, in place; `lowres` adds 3d_lowres and 3d_cascade_fullres."""
    configurations = plans["configurations"]
    for configuration in configurations.values():
        if "architecture" in configuration:
            shrink_configuration(configuration)
    if lowres:
        fullres = configurations["3d_fullres"]
        coarse = json.loads(json.dumps(fullres))
        coarse["spacing"] = [1.4 * s for s in fullres["spacing"]]
        coarse["median_image_size_in_voxels"] = [n / 1.4 for n in fullres["median_image_size_in_voxels"]]
        coarse["data_identifier"] = f"{plans['plans_name']}_3d_lowres"
        coarse["next_stage"] = "3d_cascade_fullres"
        configurations["3d_lowres"] = coarse
        configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    return plans
