"""The experiment from data to tables, with conditions that need more than a keeper: every stage once, for moments."""

from __future__ import annotations

import importlib
import io
import json
import os
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.ndimage import gaussian_filter

from helpers.support import REPOSITORY
from helpers.workspace import environment, plan, quick_training, threaded_pools
from nnunet_uhf.cli import main
from nnunet_uhf.stages import Stage, State
from nnunet_uhf.trainers.distillation.finished_teacher import ACCEPT_WORSE

SHAPE = (32, 32, 32)
CONDITIONS = ("frozen_baseline", "pseudo_labels", "privileged", "masked")
NEEDED = ("plain", "high_plain")


def write_subjects(data: Path, count: int) -> None:
    """Shells of three tissues, each subject of its own size."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    for folder in ("images", "labels_tissue"):
        (data / folder).mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        radius = np.sqrt(sum((x / rng.uniform(0.85, 1)) ** 2 for x in axes))
        labels = np.select([radius < 0.55, radius < 0.8, radius < 0.95], [3, 2, 1], 0).astype(np.uint8)
        image = gaussian_filter(np.array([0, 30.0, 75, 110])[labels], 0.5) + rng.normal(0, 2, SHAPE) * (labels > 0)
        for folder, array in (("images", np.abs(image).astype(np.float32)), ("labels_tissue", labels)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), data / folder / f"case_{number:02d}.nii.gz")
    (data / "labels.json").write_text(json.dumps({"tissue": {"background": 0, "CSF": 1, "GM": 2, "WM": 3}}))


def run_here(stage: Stage, variables: dict[str, str]) -> None:
    """A stage inside this process: its function, or its command without the start of a Python."""
    if stage.function is not None:
        stage.function()
        return
    name, *words = stage.command
    with environment(**{**variables, **stage.environment, ACCEPT_WORSE: "1"}):
        if name == "nnunet-uhf":
            with pytest.raises(SystemExit) as ended:
                main([*words, *(("--accept-worse",) if words[0] == "export-keeper" else ())])
            assert not ended.value.code
        elif name == "nnUNetv2_plan_and_preprocess":
            from nnunetv2.experiment_planning import plan_and_preprocess_api as api

            numbers = [int(word) for word in words[1 : words.index("-c")]]
            for number in numbers:
                plan(number)
            api.preprocess(numbers, configurations=["2d"], num_processes=[1], show_progress_bar=False)
        else:
            from nnunetv2.run.run_training import run_training

            assert name == "nnUNetv2_train"
            dataset, configuration, fold = words[:3]
            trainer, plans = words[words.index("-tr") + 1], words[words.index("-p") + 1]
            run_training(dataset, configuration, fold, trainer, plans, device=torch.device("cpu"))


@pytest.mark.slow
def test_every_stage_of_the_new_conditions_runs_and_the_tables_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    module: dict[str, ModuleType] = {
        name: importlib.import_module(f"experiment.{name}")
        for name in ("chain", "runs", "settings", "tables", "drift", "pretraining")
    }
    write_subjects(tmp_path / "data", 9)
    severity = module["settings"].Severity
    settings = module["settings"].Settings(
        task="tissue", keeper_subjects=5, pool=2, test_subjects=1, labels=(1,), trained=severity(2, 2),
        tests=(severity(2, 2), severity(3, 6, crop=0.3)), draws=1, epochs=1, iterations=1, learning_rate=0.0,
        pretraining_epochs=1, batch=1, features=(4, 8, 8), keeper_features=4, keeper="", same_field_keeper="",
        lane="resident",
    )  # fmt: skip
    places = module["settings"].Places(tmp_path / "data", tmp_path / "out")
    places.out.mkdir()
    task = module["settings"].find_task("tissue", places.data)
    monkeypatch.setattr(module["pretraining"], "PRETRAINING_ITERATIONS", 1)
    state = State(places.out / "stages.json", {})
    with quick_training(), threaded_pools(), redirect_stdout(io.StringIO()):
        for stage in module["chain"].chain(settings, task, places, conditions=CONDITIONS, seeds=[0], device="cpu"):
            run_here(stage, module["runs"].environment(places))
            state.finished[stage.key] = 1.0
    found = module["tables"].scores(settings, task, places, state)
    assert {score.condition for score in found} == {*CONDITIONS, *NEEDED}
    lines = module["tables"].tables(settings, found)["1 labels, tested at r3n6c0.3"]
    held_against = {line["condition"]: line["difference"] and line["difference"]["to"] for line in lines}
    assert held_against == {
        **dict.fromkeys(("pseudo_labels", "privileged", "masked"), "plain"), "plain": None, "frozen_baseline": None,
        "high_plain": None,
    }  # fmt: skip
    drift: list[dict[str, Any]] = module["drift"].drift_of_keepers(settings, task, places, device="cpu")
    assert {line["keeper"] for line in drift} == {"high_field", "random"}
    by_severity = {(line["keeper"], line["severity"]): line["drift"] for line in drift}
    assert by_severity["high_field", "r2n2"] == 0 < by_severity["high_field", "r3n6c0.3"]
    module["drift"].print_drift(drift, Console(file=io.StringIO()))
    assert os.environ.get("UHF_EXPERIMENT_START") is None
