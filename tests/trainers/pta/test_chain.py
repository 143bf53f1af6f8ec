"""From scans of two domains to a guided training: the whole way by commands, on made scans."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import DatasetSpec, TinyDataset, shrink_plans
from helpers.workspace import environment, folders, preprocess
from nnunet_uhf.cli.run import main
from nnunet_uhf.keepers.file import read_header
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.preprocessing.pairing.pseudo_pairs import pseudo_pairs


@pytest.fixture
def translated(pretrained: TinyDataset) -> ModelFolder:
    """A finished PTATrainer."""
    model = ModelFolder.of(pretrained.name, "PTATrainer", "nnUNetPlans", "2d")
    if not model.fold(0).checkpoint.is_file():
        fit(tiny_trainer("PTATrainer", pretrained, "2d", iterations=1))
    return model


def command(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code in (0, None)


@pytest.mark.parametrize("direction", ["target", "source"])
def test_pairs_have_a_true_half_and_one_that_the_model_made(
    direction: str, pretrained: TinyDataset, translated: ModelFolder, tmp_path: Path
) -> None:
    output = tmp_path / "Dataset531_PseudoPairs"
    pseudo_pairs(pretrained.raw, output, translated.path, direction=direction, device="cpu")
    description = json.loads((output / "dataset.json").read_text())
    block = description["uhf"]
    assert description["channel_names"] == {"0": "MR", "1": "MR_HF"}
    assert (block["route"], block["source"], block["target"]) == ("unpaired", "MR", "MR_HF")
    domain, half = ("HF", 1) if direction == "target" else ("LF", 0)
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (output / "labelsTr").iterdir())
    assert cases == [f"{domain}_{number}" for number in range(len(cases))]
    assert {"HF_1", "1"} & set(block["made_by"]["training_cases"])
    for case in cases:
        images = [nibabel.load(output / "imagesTr" / f"{case}_{number:04d}.nii.gz") for number in (0, 1)]
        true = nibabel.load(pretrained.raw / "imagesTr" / f"{case}_0000.nii.gz")
        assert np.array_equal(images[half].get_fdata(), true.get_fdata())
        assert images[1 - half].shape == true.shape
        assert np.ptp(images[1 - half].get_fdata()) > 0


def test_the_whole_way_from_unpaired_scans_to_a_guided_training(
    pretrained: TinyDataset, translated: ModelFolder, unpaired_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    images = {domain: tmp_path / domain for domain in ("LF", "HF")}
    for path in (pretrained.raw / "imagesTr").glob("*_0000.nii.gz"):
        domain = path.name[:2]
        images[domain].mkdir(exist_ok=True)
        shutil.copyfile(path, images[domain] / path.name.replace("_0000", "").removeprefix(f"{domain}_"))
    root = tmp_path / "nnunet"
    variables = folders(root, root / "results")
    for folder in variables.values():
        Path(folder).mkdir(parents=True)
    unpaired = root / "raw" / "Dataset532_Domains"
    command(
        "convert",
        "unpaired",
        "--lf",
        images["LF"],
        "--hf",
        images["HF"],
        "-o",
        unpaired,
        "--field-lf",
        0.36,
        "--field-hf",
        3,
    )
    written = json.loads((unpaired / "dataset.json").read_text())["uhf"]["unpaired"]
    assert written["domains"] == json.loads((pretrained.raw / "dataset.json").read_text())["uhf"]["unpaired"]["domains"]
    command("enhance", "-i", images["LF"], "-o", tmp_path / "made", "-m", translated.path, "-device", "cpu")
    assert len(list((tmp_path / "made").glob("*.nii.gz"))) == len(list(images["LF"].iterdir()))
    pairs = unpaired_root / "raw" / "Dataset533_PseudoPairs"
    command("pseudo-pairs", "-d", 530, "-m", translated.path, "-o", pairs, "-device", "cpu")
    capsys.readouterr()

    # the keeper of these pairs, and a training that it guides, as for pairs of scans
    description = json.loads((pairs / "dataset.json").read_text())
    description["uhf"]["architecture"] = {"base_features": 4}
    (pairs / "dataset.json").write_text(json.dumps(description))
    spec = DatasetSpec(533, "PseudoPairs", channels=("MR", "MR_HF"), configurations=("2d",))
    dataset = TinyDataset(spec, pairs, unpaired_root / "preprocessed" / spec.name)
    preprocess(unpaired_root, dataset, shrink_plans)
    with environment(nnUNet_UHF_ACCEPT_WORSE="1"):  # after so few steps
        for name in ("UHFTeacherTrainer", "UHFKeeperTrainer"):
            fit(tiny_trainer(name, dataset, "2d", iterations=10), validate=True)
    keeper = tmp_path / "keeper.safetensors"
    command("export-keeper", "-d", 533, "-c", "2d", "-f", 0, "-o", keeper, "--accept-worse")
    header = read_header(keeper)
    assert (header.route, header.channel) == ("unpaired", "MR")
    assert "LF_0" in header.training_cases or "LF_1" in header.training_cases
    with environment(nnUNet_UHF_KKN=str(keeper)):
        guided = fit(tiny_trainer("UHFTrainer", pretrained, "2d", iterations=1))
    assert (Path(guided.output_folder) / "checkpoint_final.pth").is_file()
