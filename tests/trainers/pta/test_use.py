"""What becomes of a finished translation: several planes, an archive, a training with pairs, distances of sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.model_sharing.model_import import install_model_from_zip_file

from helpers.damaged_models import told_or_the_same
from helpers.support import fit, only_line, tiny_trainer
from helpers.tiny_data import PAIRS, TinyDataset
from helpers.unpaired_samples import described_otherwise
from helpers.workspace import environment
from nnunet_uhf import write_untrained_keeper
from nnunet_uhf.cli.run import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.planes.images import enhance_planes
from nnunet_uhf.preprocessing.pairing.pseudo_pairs import pseudo_pairs


@pytest.fixture(scope="module")
def contrastive(pretrained: TinyDataset, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A finished CUTTrainer, with distances of sets by a keeper's maps."""
    keeper = write_untrained_keeper(tmp_path_factory.mktemp("keeper") / "net.safetensors", dim=2, base_features=4)
    model = ModelFolder.of(pretrained.name, "CUTTrainer", "nnUNetPlans", "2d")
    shutil.rmtree(model.path, ignore_errors=True)
    dataset = described_otherwise(pretrained, unpaired={"features": str(keeper)})
    fit(tiny_trainer("CUTTrainer", dataset, "2d", iterations=1), validate=True)
    return model


def image_of(path: Path) -> np.ndarray:
    return nibabel.load(path).get_fdata()


def test_distances_of_the_sets_stand_beside_those_of_two_halves_of_the_real_one(contrastive: ModelFolder) -> None:
    summary = json.loads(contrastive.fold(0).summary.read_text())
    mean = summary["mean"]
    (key,) = (name for name in mean["translation"] if name.startswith("fd_net_"))
    for name in ("translation", "matched", "low_field", "floor"):
        assert mean[name][key] >= 0
        assert key.replace("fd_", "kid_") in mean[name]
    assert key not in mean["high_field"]
    assert all("slices" not in row for row in summary["metric_per_case"])


def test_a_model_of_one_direction_makes_pairs_from_low_field_alone(
    contrastive: ModelFolder, pretrained: TinyDataset, tmp_path: Path
) -> None:
    with pytest.raises(UHFError, match="or --from source"):
        pseudo_pairs(pretrained.raw, tmp_path / "Dataset534_A", contrastive.path, device="cpu")
    pseudo_pairs(pretrained.raw, tmp_path / "Dataset535_B", contrastive.path, direction="source", device="cpu")
    assert list((tmp_path / "Dataset535_B" / "imagesTr").glob("LF_*_0001.nii.gz"))


def test_a_damaged_description_of_a_translation_is_told_in_one_line(contrastive: ModelFolder) -> None:
    found = told_or_the_same(contrastive.path, ("target_intensity",))
    # these are numbers, too
    assert [way for way in found if "1000000000000" not in way and "-1" not in way] == []


def test_the_archive_of_a_translation_enhances_as_the_model_does(
    contrastive: ModelFolder, pretrained: TinyDataset, tmp_path: Path
) -> None:
    (contrastive.fold(0).path / "progress.png").touch()  # the export asks for it, and tests draw none
    archive = tmp_path / "model.zip"
    export_pretrained_model(
        pretrained.spec.number, str(archive), configurations=("2d",), trainer="CUTTrainer", folds=(0,), strict=False
    )
    with environment(nnUNet_results=str(tmp_path / "elsewhere")):
        (tmp_path / "elsewhere").mkdir()
        install_model_from_zip_file(str(archive))
    (installed,) = (tmp_path / "elsewhere").glob("*/CUTTrainer__nnUNetPlans__2d")
    source = pretrained.raw / "imagesTr" / "LF_0_0000.nii.gz"
    for model, name in ((contrastive.path, "here"), (installed, "there")):
        enhance(source, tmp_path / f"{name}.nii.gz", model, device="cpu", progress=False)
    assert np.array_equal(image_of(tmp_path / "here.nii.gz"), image_of(tmp_path / "there.nii.gz"))


def test_several_planes_give_their_mean_and_how_far_they_are_apart(
    contrastive: ModelFolder, pretrained: TinyDataset, tmp_path: Path
) -> None:
    other = tmp_path / contrastive.path.name
    shutil.copytree(contrastive.path, other)
    for path in (other / "plans.json",):
        plans = json.loads(path.read_text())
        plans["transpose_forward"], plans["transpose_backward"] = [1, 0, 2], [1, 0, 2]
        path.write_text(json.dumps(plans))
    checkpoint = other / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    content["init_args"]["plans"] |= {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]}
    torch.save(content, checkpoint)
    source = pretrained.raw / "imagesTr" / "LF_0_0000.nii.gz"
    models = [contrastive.path, other]
    for number, model in enumerate(models):
        enhance(source, tmp_path / f"{number}.nii.gz", model, device="cpu", progress=False)
    words = [
        "-i",
        source,
        "-o",
        tmp_path / "mean.nii.gz",
        "-m",
        *models,
        "-device",
        "cpu",
        "--uncertainty",
        "--changes",
    ]
    with pytest.raises(SystemExit) as end:
        main(["enhance", *map(str, words)])
    assert end.value.code in (0, None)
    one, two = (image_of(tmp_path / f"{number}.nii.gz") for number in range(2))
    assert not np.allclose(one, two)
    np.testing.assert_allclose(image_of(tmp_path / "mean.nii.gz"), (one + two) / 2, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        image_of(tmp_path / "mean_uncertainty.nii.gz"), np.abs(one - two) / 2, rtol=1e-4, atol=1e-3
    )
    note = json.loads((tmp_path / "mean.json").read_text())
    assert len(note["mean_of"]) == len(note["keepers"]) == 2
    assert float(image_of(tmp_path / note["changes"]["file"]).max()) > 0
    with pytest.raises(UHFError, match="slice along the same axis"):
        enhance_planes(source, tmp_path / "no.nii.gz", [models[0], models[0]], device="cpu")


def test_a_training_with_pairs_starts_from_a_translation(
    contrastive: ModelFolder,
    pretrained: TinyDataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The loading is shown on the unpaired dataset with a description of pairs: its images stand for both halves."""
    paired = {
        "channel_names": {"0": "MR", "1": "MR_HF"},
        "labels": {"background": 0, "brain": 1},
        "file_ending": ".nii.gz",
        "uhf": {**PAIRS, "source": "MR", "target": "MR_HF"},
    }
    monkeypatch.setattr(TinyDataset, "dataset_json", lambda _: paired)
    plans = pretrained.plans()
    configuration = plans["configurations"]["2d"]
    for key in ("normalization_schemes", "use_mask_for_norm"):
        configuration[key] = 2 * configuration[key]
    statistics = plans["foreground_intensity_properties_per_channel"]
    statistics["1"] = statistics["0"]

    def trainer() -> Any:
        return tiny_trainer("PTATrainerPaired", pretrained, "2d", plans=plans)

    assert "nnUNet_UHF_START is not set" in only_line(capsys, trainer)
    monkeypatch.setenv("nnUNet_UHF_START", str(pretrained.raw))
    assert "is no model folder" in only_line(capsys, trainer)
    monkeypatch.setenv("nnUNet_UHF_START", str(contrastive.path))
    made = trainer()
    made.initialize()
    weights = torch.load(contrastive.fold(0).checkpoint, weights_only=False)["network_weights"]
    own = made.network.state_dict()
    assert own
    assert all(torch.equal(value, weights[name]) for name, value in own.items())
    assert made.block.networks.part("start")["model"] == contrastive.path.name
    pair = {"data": torch.randn(2, 2, 48, 48), "target": torch.ones(2, 1, 48, 48)}
    before = [parameter.detach().clone() for parameter in made.network.parameters()]
    assert np.isfinite(made.train_step(pair)["loss"])
    assert any(not torch.equal(one, other) for one, other in zip(before, made.network.parameters(), strict=True))
