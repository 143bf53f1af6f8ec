"""Guidance of every kind of plans, labels and trainers nnU-Net has: one short run each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerDiceLoss import nnUNetTrainerDiceCELoss_noSmooth
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from helpers.guided_runs import brief, checkpoint, forget_keeper, model_folder, train, use_keeper
from helpers.support import fit, tiny_trainer
from helpers.tiny_data import RESENC_PLANS
from helpers.workspace import Workspace, environment
from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.trainers import UHFGuidance, UHFTrainer


@pytest.mark.parametrize(
    ("key", "configuration", "channel", "index"),
    [
        ("single", "2d", "LF", 0),
        ("multi", "2d", "t2W", 1),
        ("regions", "2d", "LF", 0),
        ("ignore", "2d", "LF", 0),
        ("anisotropic", "3d_fullres", "LF", 0),
    ],
)
def test_labels_and_channels_of_every_kind_are_trained_and_validated(
    nnunet: Workspace, tmp_path: Path, key: str, configuration: str, channel: str, index: int
) -> None:
    dataset = nnunet.dataset(key)
    spacing = dataset.plans()["configurations"][configuration]["spacing"]
    strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]] if key == "anisotropic" else None
    use_keeper(tmp_path, len(spacing), channel, spacing_mm=tuple(spacing), strides=strides)
    train(brief(UHFTrainer), dataset, configuration, mirrored=key == "single")
    folder = model_folder(nnunet.results, UHFTrainer, dataset, configuration)
    block = json.loads((folder / "plans.json").read_text())["configurations"][configuration]["uhf"]
    assert block["guide_channel"] == index
    assert block["spacing_ratio"] == [1.0] * len(spacing)
    assert (folder / "fold_0" / "validation" / "summary.json").is_file()
    assert np.isfinite(checkpoint(folder)["logging"]["train_losses"]).all()


@pytest.mark.slow
def test_lowres_and_cascade_are_guided_by_one_keeper_at_its_own_spacing(nnunet: Workspace, tmp_path: Path) -> None:
    dataset = nnunet.dataset("cascade")
    use_keeper(tmp_path, 3)
    train(brief(UHFTrainer), dataset, "3d_lowres", fold="all")  # predicts every case for the next stage
    train(brief(UHFTrainer), dataset, "3d_cascade_fullres")
    lowres, cascade = (
        model_folder(nnunet.results, UHFTrainer, dataset, name) for name in ("3d_lowres", "3d_cascade_fullres")
    )
    block = json.loads((lowres / "plans.json").read_text())["configurations"]["3d_lowres"]["uhf"]
    assert block["spacing_ratio"] == pytest.approx([1.4] * 3, rel=0.1)
    assert "is resized by" in next((lowres / "fold_all").glob("training_log_*.txt")).read_text()
    weights = checkpoint(cascade)["network_weights"]
    assert weights["encoder.stages.0.0.convs.0.conv.weight"].shape[1] == 1 + 3  # image and one-hot labels
    assert (cascade / "fold_0" / "validation" / "summary.json").is_file()


@pytest.mark.slow
def test_a_residual_encoder_is_guided(nnunet: Workspace, tmp_path: Path) -> None:
    dataset = nnunet.dataset("resenc")
    use_keeper(tmp_path, 3)
    train(brief(UHFTrainer), dataset, "3d_fullres", plans=RESENC_PLANS)
    folder = model_folder(nnunet.results, UHFTrainer, dataset, "3d_fullres", RESENC_PLANS)
    assert any("encoder.stem" in key for key in checkpoint(folder)["network_weights"])


class GuidedDA5(UHFGuidance, nnUNetTrainerDA5):
    pass


class GuidedLoss(UHFGuidance, nnUNetTrainerDiceCELoss_noSmooth):
    pass


class GuidedBatchNorm(UHFGuidance, nnUNetTrainerBN):
    pass


class GuidedWithoutDeepSupervision(UHFGuidance, nnUNetTrainerNoDeepSupervision):
    pass


class GuidedAdam(UHFGuidance, nnUNetTrainerAdam):
    pass


class OldSignature(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(  # type: ignore[override]
        architecture_class_name: str,
        arch_init_kwargs: dict[str, object],
        arch_init_kwargs_req_import: list[str],
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        return get_network_from_plans(
            architecture_class_name,
            arch_init_kwargs,
            arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            deep_supervision=enable_deep_supervision,
        )


class GuidedOldSignature(UHFGuidance, OldSignature):
    pass


@pytest.mark.parametrize(
    "trainer", [GuidedDA5, GuidedLoss, GuidedBatchNorm, GuidedWithoutDeepSupervision, GuidedAdam, GuidedOldSignature]
)
def test_two_lines_guide_any_trainer(nnunet: Workspace, tmp_path: Path, trainer: type) -> None:
    use_keeper(tmp_path, 2)
    guided = fit(tiny_trainer(trainer, nnunet.dataset("single"), "2d"))
    assert isinstance(guided.network, UHFGuidedNet)
    plain = trainer.__mro__[trainer.__mro__.index(UHFGuidance) + 2]
    assert type(guided.loss) is type(tiny_loss(plain, guided))
    guided.check_keeper()
    forget_keeper()
    fresh = tiny_trainer(trainer, nnunet.dataset("single"), "2d", continue_training=True)
    fresh.load_checkpoint(str(Path(fresh.output_folder) / "checkpoint_final.pth"))
    state, expected = fresh.network.state_dict(), guided.network.state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def tiny_loss(plain: type, guided: nnUNetTrainer) -> nn.Module:
    """The loss the plain trainer would have built."""
    loss: nn.Module = plain._build_loss(guided)
    return loss


def test_2d_and_3d_keepers_guide_the_configurations_of_one_dataset(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    use_keeper(tmp_path, 3)
    with environment(nnUNet_UHF_KKN=str(tmp_path)):
        for configuration, dim in (("2d", 2), ("3d_fullres", 3)):
            trainer = tiny_trainer(UHFTrainer, nnunet.dataset("single"), configuration)
            trainer.initialize()
            assert trainer.guided_network.keeper.dim == dim
