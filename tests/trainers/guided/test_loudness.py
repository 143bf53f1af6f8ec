"""How loud guidance is: what is measured, and where a user reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import image
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from helpers.guided_runs import checkpoint, model_folder, use_keeper
from helpers.support import fit, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.trainers import UHFTrainer, UHFTrainerEnhancedInput
from nnunet_uhf.trainers.guided.loudness import GuidanceLogger


def log_of(trainer: Any) -> str:
    return Path(trainer.log_file).read_text()


@pytest.mark.parametrize(("configuration", "dim"), [("2d", 2), ("3d_fullres", 3)])
def test_guidance_is_silent_at_the_start_and_its_loudness_is_added_over_skip(
    nnunet: Workspace, tmp_path: Path, configuration: str, dim: int
) -> None:
    use_keeper(tmp_path, dim)
    trainer = tiny_trainer(UHFTrainer, nnunet.dataset("single"), configuration)
    trainer.initialize()
    network = trainer.guided_network.eval()
    x = torch.randn(2, 1, *trainer.configuration_manager.patch_size)
    assert network.loudness(x).tolist() == [0.0] * len(network.fusions)
    with torch.no_grad():
        for fusion in network.fusions:
            fusion.scale.fill_(0.5)
        skip = network.encoder(x)[1]
        fused = network.fusions[1](skip, network.guides(x))
    expected = ((fused - skip) ** 2).sum().sqrt() / (skip**2).sum().sqrt()
    assert network.loudness(x)[1].item() == pytest.approx(expected.item(), rel=1e-5)
    assert not network.loudness(x).requires_grad


def test_a_training_logs_loudness_draws_it_and_keeps_it_in_its_checkpoint(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    dataset = nnunet.dataset("single")
    trainer = fit(tiny_trainer(UHFTrainer, dataset, "2d", epochs=2), drawn=True)
    folder = model_folder(nnunet.results, UHFTrainer, dataset, "2d")
    measured = checkpoint(folder)["logging"]["loudness"]
    assert [len(epoch) for epoch in measured] == [len(trainer.guided_network.fusions)] * 2
    assert all(value > 0 for epoch in measured for value in epoch)
    assert trainer.loudness == measured[-1]
    assert log_of(trainer).count("Loudness of the guidance, finest stage first: 0.0") == 2
    assert image.imread(folder / "fold_0" / "progress.png").shape[0] == 2000  # five panels


def test_guidance_that_was_never_heard_is_warned_of(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    dataset = nnunet.dataset("single")

    class AsTheBackbone(UHFTrainer):
        fusion_rate = 0.0

    assert "was never heard" in log_of(fit(tiny_trainer(AsTheBackbone, dataset, "2d")))

    class Fast(UHFTrainer):
        fusion_rate = 0.1

    assert "was never heard" not in log_of(fit(tiny_trainer(Fast, dataset, "2d", iterations=4)))


def test_epochs_of_a_version_that_did_not_measure_it_stay_empty(tmp_path: Path) -> None:
    old = LocalLogger()
    for epoch in range(2):
        for key in old.my_fantastic_logging:
            old.log(key, 0.5, epoch)
    logger = GuidanceLogger()
    logger.load_checkpoint(old.get_checkpoint())
    for key in logger.my_fantastic_logging:
        logger.log(key, [0.1, 0.2] if key == "loudness" else 0.5, 2)
    assert logger.get_value("loudness", None) == [[], [], [0.1, 0.2]]
    logger.plot_progress_png(str(tmp_path))
    assert (tmp_path / "progress.png").is_file()


def test_a_network_without_fusions_has_no_loudness(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    trainer = fit(tiny_trainer(UHFTrainerEnhancedInput, nnunet.dataset("single"), "2d"))
    assert trainer.loudness == []
    assert "Loudness" not in log_of(trainer)
