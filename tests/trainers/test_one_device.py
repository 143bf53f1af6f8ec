"""Where a trainer's device is a graphics card, nothing of its steps is left on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.fake_card import step_on_fake_card
from helpers.guided_runs import use_keeper
from helpers.support import tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.trainers import SIQTTrainer, UHFTrainer

PRESETS = ("reference", "efficient", "light")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("key", "configuration"), [("single", "2d"), ("regions", "3d_fullres"), ("ignore", "2d")])
def test_guided(
    key: str, configuration: str, preset: str, nnunet: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_keeper(tmp_path, 2 if configuration == "2d" else 3)
    monkeypatch.setenv("nnUNet_UHF_PRESET", preset)
    step_on_fake_card(tiny_trainer(UHFTrainer, nnunet.dataset(key), configuration))


@pytest.mark.parametrize("name", ["ZeroGuide", "TrainableKeeper", "EnhancedInput", "WeightedLoss"])
def test_controls_and_losses(name: str, nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    step_on_fake_card(tiny_trainer(f"UHFTrainer{name}", nnunet.dataset("single"), "2d"))


@pytest.mark.parametrize(
    ("name", "key", "configuration"),
    [
        ("UHFTeacherTrainer", "pairs", "2d"),
        ("UHFTeacherTrainer", "pairs", "3d_fullres"),
        ("UHFKeeperTrainerDirect", "pairs", "2d"),
        ("SIQTTrainerMasksembles", "pairs", "3d_fullres"),
        ("SIQTTrainerSSIM", "pairs", "3d_fullres"),
        ("SIQTTrainerHuber", "high field", "2d"),
        ("UniCOALTrainer", "modalities", "2d"),
    ],
)
def test_images_to_images(name: str, key: str, configuration: str, nnunet: Workspace) -> None:
    step_on_fake_card(tiny_trainer(name, nnunet.dataset(key), configuration))


def test_what_is_left_on_the_cpu_is_found(nnunet: Workspace) -> None:
    class Forgetful(SIQTTrainer):
        def train_step(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            batch["data"] = batch["data"].to(self.device) * torch.ones(batch["data"].shape)
            return super().train_step(batch)

    Forgetful.__name__ = "SIQTTrainer"
    with pytest.raises(RuntimeError, match="same device"):
        step_on_fake_card(tiny_trainer(Forgetful, nnunet.dataset("pairs"), "2d"))
