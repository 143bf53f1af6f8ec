"""From a SIQT training over its keeper file to a guided segmentation, with nnU-Net's own functions."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from helpers.guided_runs import checkpoint, model_folder
from helpers.support import fit, predict_folder, tiny_trainer
from helpers.workspace import Workspace, environment
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.installation.trainer_path import trainer_path
from nnunet_uhf.keepers.file import read_header, weights_sha256
from nnunet_uhf.keepers.trained import read_trained_keeper
from nnunet_uhf.networks.siqt.unet import AnisotropicKeeper, AnisotropicUNet
from nnunet_uhf.trainers import UHFTrainer
from nnunet_uhf.trainers.export.keeper import export_keeper
from nnunet_uhf.trainers.siqt.trainers import SIQTTrainer


@pytest.fixture(scope="module")
def keeper_file(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 2D keeper file of a short SIQT training on pairs."""
    fit(tiny_trainer(SIQTTrainer, nnunet_module.dataset("pairs"), "2d"), validate=True)
    return export_keeper(
        nnunet_module.dataset("pairs").id,
        "2d",
        0,
        trainer="SIQTTrainer",
        output=tmp_path_factory.mktemp("keeper") / "siqt.safetensors",
        accept_worse=True,
    )


def test_the_file_names_network_data_and_paper(keeper_file: Path, nnunet_module: Workspace) -> None:
    header = read_header(keeper_file)
    assert (header.format_version, header.network, header.channel) == (4, "anisotropic_unet", "LF")
    assert header.architecture["pooling"] == "max"
    assert header.decoder_architecture == {"dim": 2, "base_features": header.architecture["base_features"]}
    assert header.training_cases
    assert "Lin et al." in header.citation
    assert "2402.08409" not in header.citation
    dataset = nnunet_module.dataset("pairs")
    trained = read_trained_keeper(model_folder(nnunet_module.results, SIQTTrainer, dataset, "2d"), 0)
    assert isinstance(trained.network, AnisotropicUNet)
    assert (header.sha256, header.decoder_sha256) == (trained.header.sha256, trained.header.decoder_sha256)


def test_a_segmentation_is_guided_by_it_and_predicts_without_the_file(
    keeper_file: Path, nnunet: Workspace, tmp_path: Path
) -> None:
    dataset = nnunet.dataset("single")
    with environment(nnUNet_UHF_KKN=str(keeper_file)):
        trainer = fit(tiny_trainer(UHFTrainer, dataset, "2d"))
    assert isinstance(trainer.guided_network.keeper, AnisotropicKeeper)
    folder = model_folder(nnunet.results, UHFTrainer, dataset, "2d")
    block = PlansManager(str(folder / "plans.json")).get_configuration("2d").configuration["uhf"]
    assert block["keeper"]["network"] == "anisotropic_unet"
    weights = checkpoint(folder)["network_weights"]
    keeper = {name.removeprefix("keeper."): value for name, value in weights.items() if name.startswith("keeper.")}
    assert weights_sha256(keeper) == read_header(keeper_file).sha256  # running statistics included
    with environment(nnUNet_extTrainer=trainer_path()):
        predicted = predict_folder(folder, dataset.raw / "imagesTs", tmp_path / "out")
    assert list(predicted.glob("*.nii.gz"))


def test_file_and_model_folder_enhance_alike(keeper_file: Path, nnunet_module: Workspace, tmp_path: Path) -> None:
    dataset = nnunet_module.dataset("pairs")
    image = sorted((dataset.raw / "imagesTr").glob("*_0000.nii.gz"))[0]
    folder = model_folder(nnunet_module.results, SIQTTrainer, dataset, "2d")
    outputs = []
    for name, model in (("file", keeper_file), ("folder", folder)):
        (path,) = enhance(image, tmp_path / f"{name}.nii.gz", model, device="cpu", progress=False)
        assert "not for diagnosis" in json.loads((tmp_path / f"{name}.json").read_text())["description"]
        outputs.append(nibabel.load(path))
    before = nibabel.load(image)
    assert outputs[0].shape == before.shape
    np.testing.assert_allclose(outputs[0].affine, before.affine, atol=1e-5)
    # target intensities differ: of the raw images there, of the labelled voxels here
    first, second = (one.get_fdata() for one in outputs)
    inside = before.get_fdata() != 0
    assert np.corrcoef(first[inside], second[inside])[0, 1] == pytest.approx(1, abs=1e-6)
