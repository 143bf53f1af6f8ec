"""nnU-Net's benchmark trainers, guided; there is no CUDA here, so their look for it is answered."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

from helpers.guided_runs import use_keeper
from helpers.support import REPOSITORY, fit, tiny_trainer
from helpers.workspace import Workspace


@pytest.mark.parametrize("kind", ["5epochs", "5epochs_noDataLoading"])
def test_the_guided_benchmark_trainers_report_an_epoch_time(
    kind: str, tmp_path: Path, nnunet: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks" / "epoch_time_trainers"))
    trainers = importlib.import_module("benchmark_trainers")
    monkeypatch.setenv("nnUNet_UHF_PRESET", "efficient")
    dataset = nnunet.dataset("single")
    use_keeper(tmp_path, 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "none")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 0)
    with monkeypatch.context() as pretended:  # optimisers, too, would look for a card
        pretended.setattr(torch.cuda, "is_available", lambda: True)
        trainer = tiny_trainer(getattr(trainers, f"UHFTrainerBenchmark_{kind}"), dataset, "2d", iterations=1, epochs=2)
    fit(trainer)
    (measured,) = json.loads((Path(trainer.output_folder) / "benchmark_result.json").read_text()).values()
    assert measured["fastest_epoch"] > 0
    assert trainer.guidance.preset == "efficient"
    assert not list(Path(trainer.output_folder).glob("*.pth"))


@pytest.mark.parametrize(("asked", "length"), [(None, (250, 50)), ("20", (20, 4))])
def test_an_epoch_has_as_many_iterations_as_asked_for(
    asked: str | None, length: tuple[int, int], nnunet: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks" / "epoch_time_trainers"))
    trainers = importlib.import_module("benchmark_trainers")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv(trainers.ITERATIONS, raising=False)
    if asked is not None:
        monkeypatch.setenv(trainers.ITERATIONS, asked)
    dataset = nnunet.dataset("single")
    trainer = trainers.PlainTrainerBenchmark_5epochs(
        {**dataset.plans(), "continue_training": False}, "2d", 0, dataset.dataset_json(), device=torch.device("cpu")
    )
    assert (trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == length
