"""Small made data, small plans and small runs for the tests.

Everything here goes through nnU-Net's own functions, only faster: datasets of six subjects of about 40^3 voxels, plans cut
down to three stages of 4, 8 and 16 features, and worker pools that are threads of this process instead of spawned ones.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

REPOSITORY = Path(__file__).resolve().parents[1]
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
SPECS = {
    "single": DatasetSpec(501, "Tiny"),
    "multi": DatasetSpec(502, "TinyMulti", channels=("T1w", "T2w")),
    "regions": DatasetSpec(503, "TinyRegions", labels=REGIONS, region_order=(1, 2, 3)),
    "ignore": DatasetSpec(504, "TinyIgnore", labels={**LABELS, "ignore": 4}),
    "pairs": DatasetSpec(505, "TinyPairs", channels=("LF", "HF"), extra={"uhf": PAIRS}),
    "cascade": DatasetSpec(506, "TinyCascade", configurations=("2d", "3d_fullres", "3d_lowres")),
    "anisotropic": DatasetSpec(507, "TinyAnisotropic", shape=(40, 40, 18), spacing_mm=(0.8, 0.8, 2.6)),
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

    def dataset_json(self) -> dict[str, Any]:
        return json.loads((self.preprocessed / "dataset.json").read_text())


def make_labels(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Draw an ellipsoid "brain" with a wavy surface: CSF 1 outside and in the middle, GM 2, WM 3; zero elsewhere."""
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
    """Paint tissue labels with a channel's contrast; float32, zero outside the brain. LF is blurred and noisy."""
    image = np.array([0.0, *SIGNAL[channel]])[labels]
    low_field = channel == "LF"
    image = gaussian_filter(image, 1.0 if low_field else 0.4)
    image = image + (6.0 if low_field else 1.5) * rng.standard_normal(labels.shape)
    return (np.maximum(image, 1.0) * (labels > 0)).astype(np.float32)


def case_affine(spacing_mm: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """A world matrix with a flipped first axis and an off-centre origin: real scans never have the identity."""
    steps = np.array([-1.0, 1.0, 1.0]) * np.asarray(spacing_mm)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.asarray(shape) - 1) / 2 + np.array([4.0, -11.0, 7.5])
    return affine


def write_image(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def write_raw_dataset(
    folder: Path, spec: DatasetSpec, *, training_cases: int = 5, test_cases: int = 1
) -> Path:
    """Write a raw nnU-Net dataset: imagesTr, labelsTr, imagesTs, labelsTs and dataset.json."""
    root = folder / spec.name
    for index in range(training_cases + test_cases):
        rng = np.random.default_rng(1000 * spec.number + index)
        part = "Tr" if index < training_cases else "Ts"
        # the second case and the test case have a finer grid, so that resampling and its undoing are exercised
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
    """Cut one planned configuration down to three stages, 4/8/16 features, patches of 32 and a batch of 2, in place."""
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
    """Cut planned configurations down to test size, in place; `lowres` adds 3d_lowres and 3d_cascade_fullres."""
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


class _ThreadedContext:
    """A multiprocessing context whose pools are threads; all else comes from the real context."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Pool(self, processes: int | None = None, *args: Any) -> ThreadPool:  # noqa: N802 - the library's name
        return ThreadPool(processes, *args)


@contextmanager
def threaded_pools() -> Iterator[None]:
    """Let `multiprocessing.get_context(...).Pool` make threads: a spawned worker spends seconds importing torch."""
    original = multiprocessing.get_context
    with mock.patch.object(
        multiprocessing, "get_context", lambda method=None: _ThreadedContext(original(method))
    ):
        yield


@contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Set environment variables for a while; None unsets one."""
    before = {name: os.environ.get(name) for name in values}
    _apply_environment(values)
    try:
        yield
    finally:
        _apply_environment(before)


def _apply_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def prepare_dataset(root: Path, spec: DatasetSpec, **cases: int) -> TinyDataset:
    """Write, fingerprint, plan, shrink and preprocess one dataset under root/raw and root/preprocessed."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    raw = write_raw_dataset(root / "raw", spec, **cases)
    dataset = TinyDataset(spec, raw, root / "preprocessed" / spec.name)
    # planning hands nnUNet_n_proc_DA to torch.set_num_threads, which refuses the 0 that trainings want
    with environment(**folders(root, root / "results"), nnUNet_n_proc_DA="1"), threaded_pools():
        api.extract_fingerprints([spec.number], num_processes=1, show_progress_bar=False)
        api.plan_experiments([spec.number], spec.planner)
        torch.set_num_threads(1)
        dataset.write_plans(shrink_plans(dataset.plans(), lowres="3d_lowres" in spec.configurations))
        api.preprocess(
            [spec.number], spec.plans_name, spec.configurations, num_processes=[1], show_progress_bar=False
        )
    return dataset


def folders(root: Path, results: Path) -> dict[str, str]:
    """nnU-Net's three folder variables."""
    return {
        "nnUNet_raw": str(root / "raw"),
        "nnUNet_preprocessed": str(root / "preprocessed"),
        "nnUNet_results": str(results),
    }


@dataclass
class Workspace:
    """nnU-Net's folders for one test: shared prepared data, results of its own. `dataset` builds on first use."""

    root: Path
    results: Path
    built: dict[str, TinyDataset]

    def dataset(self, key: str) -> TinyDataset:
        """One of SPECS, prepared at most once a session. Write no file of a fixed name into it: use `private`."""
        if key not in self.built:
            self.built[key] = prepare_dataset(self.root, SPECS[key])
        return self.built[key]

    def private(self, key: str, root: Path) -> Workspace:
        """A workspace under root with a copy of one dataset that the test may change; sets nnU-Net's variables."""
        source = self.dataset(key)
        copy = TinyDataset(source.spec, root / "raw" / source.name, root / "preprocessed" / source.name)
        shutil.copytree(source.raw, copy.raw)
        shutil.copytree(source.preprocessed, copy.preprocessed)
        workspace = Workspace(root, root / "results", {key: copy})
        workspace.activate()
        return workspace

    def activate(self) -> None:
        """Point nnU-Net's variables here; the `nnunet` fixture restores them after the test."""
        self.results.mkdir(parents=True, exist_ok=True)
        os.environ.update(folders(self.root, self.results))


def find_trainer(name: str) -> type:
    """A trainer class by name: ours, or one of nnU-Net's own."""
    import nnunet_uhf.trainers as ours

    if hasattr(ours, name):
        return getattr(ours, name)
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    return recursive_find_trainer_class_by_name(name)


def tiny_trainer(
    trainer: str | type,
    dataset: TinyDataset,
    configuration: str,
    *,
    fold: int | str = 0,
    plans: str | Mapping[str, Any] | None = None,
    iterations: int = 2,
    val_iterations: int = 1,
    epochs: int = 1,
    continue_training: bool = False,
) -> Any:
    """A trainer on the CPU with a handful of iterations, not yet initialised; `plans` is a plans name or the plans."""
    cls = find_trainer(trainer) if isinstance(trainer, str) else trainer
    content = dict(plans) if isinstance(plans, Mapping) else dataset.plans(plans)
    content["continue_training"] = continue_training
    made = cls(content, configuration, fold, dataset.dataset_json(), device=torch.device("cpu"))
    made.num_iterations_per_epoch = iterations
    made.num_val_iterations_per_epoch = val_iterations
    made.num_epochs = epochs
    return made


def fit(trainer: Any, *, validate: bool = False, npz: bool = False) -> Any:
    """Train, and on request validate, inside this process; returns the trainer."""
    with threaded_pools():
        trainer.run_training()
        if validate:
            trainer.perform_actual_validation(npz)
    return trainer


def predict_folder(model: Path, source: Path, output: Path, *, fold: int | str = 0, **options: Any) -> Path:
    """nnU-Net's own prediction of a folder from a model folder, inside this process; returns the output folder."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    output.mkdir(parents=True, exist_ok=True)
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (fold,), "checkpoint_final.pth")
    predictor.predict_from_files_sequential(str(source), str(output), **options)
    return output


def run_command(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout_s: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run a console script that is installed beside this Python, on the CPU; with `check` a failure fails the test."""
    script = Path(sys.executable).parent / command[0]
    if not script.exists():
        raise FileNotFoundError(f"{command[0]} is not installed beside {sys.executable}")
    variables = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        **(env or {}),
    }
    words = [str(script), *(str(word) for word in command[1:])]
    done = subprocess.run(
        words, env=variables, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if check and done.returncode != 0:
        pytest.fail(
            f"{command[0]} exited with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done


def tiny_keeper(
    folder: Path,
    dim: int,
    channel: str = "LF",
    *,
    name: str | None = None,
    seed: int = 0,
    decoder: bool = True,
    **header: Any,
) -> Path:
    """Write a valid keeper file with 4 base features and random weights; `header` overrides fields of its header."""
    from nnunet_uhf.keeper_file import KeeperHeader, write_keeper
    from nnunet_uhf.networks.keeper import KnowledgeKeeper
    from nnunet_uhf.networks.teacher import UHFTeacher

    torch.manual_seed(seed)
    strides = header.pop("strides", None)
    keeper = KnowledgeKeeper(dim=dim, in_channels=1, base_features=4, strides=strides)
    head = UHFTeacher(dim=dim, in_channels=1, base_features=4, strides=strides).decoder
    fields: dict[str, Any] = {
        "format_version": 1,
        "architecture": keeper.config(),
        "decoder_architecture": head.config() if decoder else None,
        "dim": dim,
        "channel": channel,
        "spacing_mm": (1.0,) * dim,
        "axis_order": "transposed SimpleITK zyx",
        "transpose_forward": (0, 1, 2),
        "patch_size": (32,) * dim,
        "normalisation": "ZScoreNormalization",
        "use_mask_for_norm": True,
        "target_intensity": {"mean": 70.0, "std": 25.0},
        "source_field_T": 0.36,
        "target_field_T": 3.0,
        "route": "paired",
        "dataset": "Dataset505_TinyPairs",
        "fold": 0,
        "configuration": "2d" if dim == 2 else "3d_fullres",
        "training_cases": ["case_01", "case_02", "case_03", "case_04"],
        "validation_cases": ["case_00"],
        "metrics": {},
        "sha256": "",
        "package_version": "0",
        "licence": "CC0-1.0",
        "citation": "made for the tests",
        **header,
    }
    path = folder / (name or f"keeper_{dim}d.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    write_keeper(
        path,
        header=KeeperHeader(**fields),
        keeper_state=keeper.state_dict(),
        decoder_state=head.state_dict() if decoder else None,
    )
    return path


def shared_data() -> Path:
    """The folder of real scans kept beside the repository (or NNUNET_UHF_TEST_DATA); skips the test without it."""
    chosen = os.environ.get("NNUNET_UHF_TEST_DATA")
    folder = Path(chosen) if chosen else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"real test data not found in {folder}; set NNUNET_UHF_TEST_DATA to the folder that holds it"
        )
    return folder
