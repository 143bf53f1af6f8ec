"""Promises of a guided training, looked at on one short run of the stock command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from helpers.guided_runs import brief, checkpoint, forget_keeper, model_folder, train, use_keeper
from helpers.support import predict_folder, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace, environment
from nnunet_uhf.installation.trainer_path import trainer_path
from nnunet_uhf.keepers.file import read_keeper
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.trainers import UHFTrainer, UHFTrainerNoMirroring

KEEPER = "keeper."


@dataclass(frozen=True)
class TrainedModel:
    """A guided model after two epochs and its validation."""

    folder: Path
    keeper: Path
    dataset: TinyDataset


@pytest.fixture(scope="module")
def trained(nnunet_module: Workspace) -> TrainedModel:
    dataset = nnunet_module.dataset("single")
    keeper = use_keeper(nnunet_module.results, 3, format_version=4, orientation="PIR")
    torch.manual_seed(1)
    train(brief(UHFTrainer, epochs=2), dataset, "3d_fullres", export_validation_probabilities=True)
    forget_keeper()
    return TrainedModel(model_folder(nnunet_module.results, UHFTrainer, dataset, "3d_fullres"), keeper, dataset)


def keeper_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(KEEPER): value for key, value in weights.items() if key.startswith(KEEPER)}


def test_the_keeper_is_bit_identical_after_training(trained: TrainedModel) -> None:
    expected = read_keeper(trained.keeper).keeper_state
    for name in ("checkpoint_final.pth", "checkpoint_best.pth"):
        present = keeper_weights(checkpoint(trained.folder, name)["network_weights"])
        assert present.keys() == expected.keys()
        assert all(torch.equal(present[key], expected[key]) for key in expected)


def test_backbone_and_fusions_are_trained(trained: TrainedModel) -> None:
    best, final = (
        checkpoint(trained.folder, name)["network_weights"] for name in ("checkpoint_best.pth", "checkpoint_final.pth")
    )
    scales = [value for key, value in final.items() if key.startswith("fusions.") and key.endswith(".scale")]
    assert len(scales) == 3
    assert all(bool((scale != 0).all()) for scale in scales)
    assert set(best) == set(final)


def test_plans_and_checkpoints_carry_the_block(trained: TrainedModel) -> None:
    saved = json.loads((trained.folder / "plans.json").read_text())["configurations"]["3d_fullres"]["uhf"]
    carried = checkpoint(trained.folder)["init_args"]["plans"]["configurations"]["3d_fullres"]["uhf"]
    assert saved == carried
    assert saved["role"] == "guided"
    assert saved["keeper"]["sha256"] == read_keeper(trained.keeper).header.sha256


def test_the_checkpoint_can_be_read_without_unpickling(trained: TrainedModel) -> None:
    read = load_checkpoint_weights(trained.folder / "fold_0" / "checkpoint_final.pth")
    assert read["trainer_name"] == "UHFTrainer"


def test_validation_leaves_a_summary_and_probabilities(trained: TrainedModel) -> None:
    validation = trained.folder / "fold_0" / "validation"
    assert 0 <= json.loads((validation / "summary.json").read_text())["foreground_mean"]["Dice"] <= 1
    assert list(validation.glob("*.npz"))


def test_the_log_names_keeper_and_channel(trained: TrainedModel) -> None:
    log = next((trained.folder / "fold_0").glob("training_log_*.txt")).read_text()
    assert f"UHF guidance by keeper {read_keeper(trained.keeper).header.sha256[:8]}: 0.36 T -> 3 T, route " in log
    assert "The keeper sees channel 0 (LF)" in log
    assert "learnt from images stored in PIR, this dataset's are stored in LAS (5 of 5 cases)" in log


def test_training_continues_and_validates_without_a_keeper_file(trained: TrainedModel) -> None:
    before = keeper_weights(checkpoint(trained.folder)["network_weights"])
    summary = trained.folder / "fold_0" / "validation" / "summary.json"
    train(brief(UHFTrainer, epochs=3), trained.dataset, "3d_fullres", continue_training=True)
    after = checkpoint(trained.folder)
    assert after["current_epoch"] == 3
    weights = keeper_weights(after["network_weights"])
    assert all(torch.equal(weights[key], before[key]) for key in before)
    summary.unlink()
    train(brief(UHFTrainer, epochs=3), trained.dataset, "3d_fullres", only_run_validation=True)
    assert summary.is_file()


def test_a_zip_installed_elsewhere_predicts_the_same_voxels_without_a_keeper(
    trained: TrainedModel, tmp_path: Path
) -> None:
    from nnunetv2.model_sharing.model_export import export_pretrained_model
    from nnunetv2.model_sharing.model_import import install_model_from_zip_file

    archive, elsewhere = tmp_path / "model.zip", tmp_path / "elsewhere"
    (trained.folder / "fold_0" / "progress.png").touch()  # the export asks for it, and tests draw none
    export_pretrained_model(trained.dataset.name, str(archive), ("3d_fullres",), "UHFTrainer", folds=(0,))
    elsewhere.mkdir()
    nowhere = str(tmp_path / "nowhere")
    images = trained.dataset.raw / "imagesTs"
    with environment(nnUNet_extTrainer=trainer_path()):
        here = predict_folder(trained.folder, images, tmp_path / "here", save_probabilities=True)
        with environment(nnUNet_results=str(elsewhere), nnUNet_preprocessed=nowhere, nnUNet_raw=nowhere):
            install_model_from_zip_file(str(archive))
            installed = elsewhere / trained.dataset.name / trained.folder.name
            there = predict_folder(installed, images, tmp_path / "there", save_probabilities=True)
    files = sorted(path.name for path in here.glob("case_*.nii.gz"))
    assert files
    for name in files:
        first, second = (np.asanyarray(nibabel.load(folder / name).dataobj) for folder in (here, there))
        assert np.array_equal(first, second)
        archive_name = name.replace(".nii.gz", ".npz")
        first, second = (np.load(folder / archive_name)["probabilities"] for folder in (here, there))
        assert np.array_equal(first, second)


@pytest.mark.parametrize(("configuration", "dim"), [("2d", 2), ("3d_fullres", 3)])
def test_step_zero_is_the_plain_network_and_gradients_flow(
    nnunet: Workspace, tmp_path: Path, configuration: str, dim: int
) -> None:
    use_keeper(tmp_path, dim)
    trainer = tiny_trainer(UHFTrainer, nnunet.dataset("single"), configuration)
    trainer.initialize()
    guided = trainer.guided_network.eval()
    plain = nnUNetTrainer.build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 1, trainer.label_manager.num_segmentation_heads
    ).eval()
    own = {key: value for key, value in guided.state_dict().items() if not key.startswith((KEEPER, "fusions."))}
    plain.load_state_dict(own)
    x = torch.randn(2, 1, *trainer.configuration_manager.patch_size)
    with torch.no_grad():
        for output, expected in zip(guided(x), plain(x), strict=True):
            assert (output - expected).abs().max() <= 1e-6

    with_gradient = ("encoder.stages.0", "encoder.stages.2", "decoder.stages.1", "fusions.0.scale", "fusions.2.scale")
    trainer.train_step(batch(trainer))
    for name, parameter in guided.named_parameters():
        assert not name.startswith(KEEPER) or parameter.grad is None, name
        if name.startswith(with_gradient) and not name.endswith("bias"):
            assert parameter.grad.abs().max() > 0, name


def batch(trainer: nnUNetTrainer) -> dict[str, object]:
    """A random training batch with targets at every deep supervision scale."""
    patch = trainer.configuration_manager.patch_size
    sizes = [
        [round(n * s) for n, s in zip(patch, scale, strict=True)] for scale in trainer._get_deep_supervision_scales()
    ]
    return {
        "data": torch.randn(2, 1, *patch),
        "target": [torch.randint(0, 4, (2, 1, *size)).float() for size in sizes],
    }


def test_the_keeper_is_frozen_in_eval_mode_and_unknown_to_the_optimizer(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    trainer = tiny_trainer(UHFTrainer, nnunet.dataset("single"), "2d")
    trainer.initialize()
    trainer.on_train_epoch_start()
    network = trainer.guided_network
    assert network.training
    assert not network.keeper.training
    keeper = {id(parameter) for parameter in network.keeper.parameters()}
    optimised = [id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]]
    assert not keeper & set(optimised)
    trainable = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    assert len(optimised) == len(set(optimised))
    assert set(optimised) == trainable
    assert {id(parameter) for parameter in network.parameters()} == trainable | keeper


def test_no_mirroring_never_swaps_left_and_right(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    trainer = tiny_trainer(UHFTrainerNoMirroring, nnunet.dataset("single"), "2d")
    *_, mirrored_axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert mirrored_axes is None
    assert trainer.inference_allowed_mirroring_axes is None


def test_the_keeper_of_the_right_dimension_is_taken(nnunet: Workspace, tmp_path: Path) -> None:
    three, two = use_keeper(tmp_path, 3), use_keeper(tmp_path, 2)
    with environment(nnUNet_UHF_KKN=str(tmp_path)):
        trainers = [tiny_trainer(UHFTrainer, nnunet.dataset("single"), name) for name in ("2d", "3d_fullres")]
    assert [trainer.keeper_file.path for trainer in trainers] == [two, three]


@pytest.mark.parametrize(("known", "warned"), [("case_01", True), ("another_case", False)])
def test_validation_cases_the_keeper_was_trained_on_are_warned_of(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], known: str, warned: bool
) -> None:
    use_keeper(tmp_path, 2, training_cases=[known])
    said = ""
    for fold in range(5):  # case_01 is held out in one of them
        trainer = tiny_trainer(UHFTrainer, nnunet.dataset("single"), "2d", fold=fold)
        trainer.do_split()
        said += capsys.readouterr().out
    assert said.count("WARNING: the keeper was trained (in Dataset505_TinyPairs) on 1 of this fold's 1") == int(warned)
