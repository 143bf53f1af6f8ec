"""A model of thick slices from its training to the files of a user: export, guide (refused), enhance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset, write_image
from helpers.workspace import Workspace, environment
from nnunet_uhf.imageio.files import note_path
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.keepers.file import read_header
from nnunet_uhf.trainers.export.keeper import export_keeper
from nnunet_uhf.trainers.guided.guidance import UHFTrainer
from nnunet_uhf.trainers.siqt.trainers import SIQTTrainerMasksembles

RATIO, AXIS = 4, 0


@pytest.fixture(scope="module")
def dataset(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> TinyDataset:
    own = nnunet_module.private("high field", tmp_path_factory.mktemp("native")).dataset("high field")
    description = own.dataset_json()
    description["uhf"]["simulate"].update(mode="native", ratios=[RATIO], axes=[AXIS])
    (own.preprocessed / "dataset.json").write_text(json.dumps(description))
    return own


@pytest.fixture(scope="module")
def trainer(dataset: TinyDataset) -> Any:
    """An ensemble in 3D after one step."""
    return fit(tiny_trainer(SIQTTrainerMasksembles, dataset, "3d_fullres", iterations=1), validate=True)


@pytest.fixture(scope="module")
def keeper_file(trainer: Any, dataset: TinyDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("models") / "siqt.safetensors"
    name = type(trainer).__name__
    return export_keeper(dataset.name, "3d_fullres", 0, trainer=name, output=output, accept_worse=True)


def test_the_file_says_how_its_slices_were_simulated(keeper_file: Path) -> None:
    header = read_header(keeper_file)
    assert (header.network, header.route, header.channel) == ("anisotropic_unet", "simulated", "LF")
    assert header.simulation is not None
    assert (header.simulation["mode"], header.simulation["axes"]) == ("native", [AXIS])
    assert (header.architecture["ratio"], header.architecture["slice_axis"]) == (RATIO, AXIS)
    assert header.architecture["masks"] == 16
    assert header.metrics["input"]["psnr"] > 0


def test_it_cannot_guide_and_says_why(keeper_file: Path, nnunet: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with environment(nnUNet_UHF_KKN=str(keeper_file)), pytest.raises(SystemExit) as end:
        tiny_trainer(UHFTrainer, nnunet.dataset("single"), "3d_fullres")
    assert end.value.code == 2
    assert f"it makes {RATIO} slices of one" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["file", "folder"])
def test_it_enhances_a_scan_of_thick_slices(
    form: str, trainer: Any, keeper_file: Path, dataset: TinyDataset, tmp_path: Path
) -> None:
    whole = nibabel.load(dataset.raw / "imagesTr" / "case_00_0000.nii.gz")
    affine = whole.affine @ np.diag([1, 1, RATIO, 1])
    write_image(tmp_path / "thick.nii.gz", whole.get_fdata()[..., ::RATIO].astype(np.float32), affine)
    model = keeper_file if form == "file" else Path(trainer.output_folder_base)
    (path,) = enhance(
        tmp_path / "thick.nii.gz", tmp_path / "out.nii.gz", model, device="cpu", progress=False, uncertainty=True
    )
    image, spread = nibabel.load(path), nibabel.load(tmp_path / "out_uncertainty.nii.gz")
    assert image.shape == spread.shape == whole.shape
    np.testing.assert_allclose(image.affine, whole.affine, atol=1e-4)
    assert spread.get_fdata().min() >= 0
    assert spread.get_fdata().max() > 0
    note = json.loads(note_path(path).read_text())
    assert "SIMULATED" in note["description"]
    assert note["slices"]["made_of_one"] == RATIO
