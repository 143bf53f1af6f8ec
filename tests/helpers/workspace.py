"""nnU-Net's folders for the tests: tiny datasets prepared once a session, results of every test's own.

nnU-Net's fixed costs are left out: worker pools are threads of this process instead of spawned ones, which would spend
seconds importing torch; a fingerprint draws thousands of voxels, not a hundred million; planning weighs no network.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from helpers.tiny_data import SPECS, DatasetSpec, TinyDataset, shrink_plans, write_raw_dataset


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
    """Let `multiprocessing.get_context(...).Pool` make pools of threads."""
    original = multiprocessing.get_context
    with mock.patch.object(multiprocessing, "get_context", lambda method=None: _ThreadedContext(original(method))):
        yield


@contextmanager
def quick_training(*, drawn: bool = False, mirrored: bool = False) -> Iterator[None]:
    """Training and validation at the price of their steps: no progress.png, no mirrored passes, unless asked for."""
    from nnunetv2.training.logging.nnunet_logger import MetaLogger
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as module

    predictor = module.nnUNetPredictor

    def unmirrored(**options: Any) -> Any:
        return predictor(**{**options, "use_mirroring": False})

    with ExitStack() as stack:
        stack.enter_context(threaded_pools())
        if not drawn:
            stack.enter_context(mock.patch.object(MetaLogger, "plot_progress_png"))
        if not mirrored:
            stack.enter_context(mock.patch.object(module, "nnUNetPredictor", unmirrored))
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
    raw = write_raw_dataset(root / "raw", spec, **cases)
    dataset = TinyDataset(spec, raw, root / "preprocessed" / spec.name)
    lowres = "3d_lowres" in spec.configurations
    preprocess(root, dataset, lambda plans: shrink_plans(plans, lowres=lowres))
    return dataset


def preprocess(
    root: Path, dataset: TinyDataset, change: Callable[[dict[str, Any]], dict[str, Any]], *, checked: bool = False
) -> None:
    """Fingerprint (after nnU-Net's check of the dataset, on request), plan, change the plans, preprocess."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    spec = dataset.spec
    with environment(**folders(root, root / "results")):
        plan(spec.number, spec.planner, checked=checked)
        dataset.write_plans(change(dataset.plans()))
        with threaded_pools(), redirect_stdout(io.StringIO()):
            api.preprocess(
                [spec.number], spec.plans_name, spec.configurations, num_processes=[1], show_progress_bar=False
            )


def plan(number: int, planner: str = "ExperimentPlanner", *, checked: bool = False) -> None:
    """nnU-Net's fingerprint and plans; these are of no use in full size, since no network is weighed for them."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    class FewVoxels(DatasetFingerprintExtractor):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.num_foreground_voxels_for_intensitystats = 10_000

    # nnU-Net prints whole plans, which would bury the message of a failing test; it hands nnUNet_n_proc_DA to
    # torch.set_num_threads, which refuses the 0 that trainings want
    with threaded_pools(), redirect_stdout(io.StringIO()), environment(nnUNet_n_proc_DA="1"):
        api.extract_fingerprint_dataset(number, FewVoxels, 1, checked, show_progress_bar=False)
        with mock.patch.object(ExperimentPlanner, "static_estimate_VRAM_usage", staticmethod(lambda *_: 1e7)):
            api.plan_experiments([number], planner)
    torch.set_num_threads(1)


def folders(root: Path, results: Path) -> dict[str, str]:
    """nnU-Net's three folder variables."""
    return {
        "nnUNet_raw": str(root / "raw"),
        "nnUNet_preprocessed": str(root / "preprocessed"),
        "nnUNet_results": str(results),
    }


@dataclass
class Workspace:
    """nnU-Net's folders for one test: shared prepared data, results of its own."""

    root: Path
    results: Path
    built: dict[str, TinyDataset]

    def dataset(self, key: str) -> TinyDataset:
        """One of SPECS, prepared on first use and shared by all tests: to change it, use `private`."""
        if key not in self.built:
            self.built[key] = prepare_dataset(self.root, SPECS[key])
        return self.built[key]

    def private(self, key: str, root: Path) -> Workspace:
        """A workspace under root, made the current one, with a copy of a dataset that may be changed."""
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
