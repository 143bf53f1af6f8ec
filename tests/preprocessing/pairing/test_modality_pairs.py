"""Pairs of true scans and of what a Uni-COAL model makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.unicoal_samples import write_unicoal_keeper
from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.unicoal.modalities import Modalities
from nnunet_uhf.preprocessing.pairing.modality_pairs import modality_pairs
from nnunet_uhf.routes.table import read_task


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    known = Modalities(tesla={"T1w": 0.36, "T1w_3T": 3.0}, sources=("T1w",), targets=("T1w_3T",))
    return write_unicoal_keeper(
        tmp_path_factory.mktemp("model") / "unicoal.safetensors", modalities=known, training_cases=["anna", "carl"]
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "Dataset001_Made"
    rng = np.random.default_rng(0)
    for case in ("anna", "bert", "carl"):
        image = rng.uniform(50, 150, (12, 12, 6)).astype(np.float32)
        image[:2] = 0
        labels = (image > 0).astype(np.uint8)
        if case == "carl":
            image[:] = 0  # a modality that is missing
        for path, data in ((f"imagesTr/{case}_0000", image), (f"labelsTr/{case}", labels)):
            target = folder / f"{path}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), target)
    description = {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "brain": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def test_pairs_name_their_maker_and_what_it_has_seen(model: Path, dataset: Path, tmp_path: Path) -> None:
    output = modality_pairs(dataset, tmp_path / "Dataset002_Pairs", model, source="T1w", target="T1w_3T", device="cpu")
    description = json.loads((output / "dataset.json").read_text())
    task = read_task(description, dataset=output.name)
    assert (task.route, task.source_field_T, task.target_field_T) == ("unicoal", 0.36, 3.0)
    assert description["uhf"]["made_by"]["training_cases"] == ["anna", "carl"]
    assert sorted(path.name for path in (output / "labelsTr").iterdir()) == ["anna.nii.gz", "bert.nii.gz"]
    for case in ("anna", "bert"):
        true, made = (nibabel.load(output / "imagesTr" / f"{case}_{n:04d}.nii.gz") for n in (0, 1))
        given = nibabel.load(dataset / "imagesTr" / f"{case}_0000.nii.gz")
        np.testing.assert_array_equal(true.get_fdata(), given.get_fdata())
        assert made.shape == true.shape
        assert np.ptp(made.get_fdata()) > 0


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [("FLAIR", "T1w_3T", "no channel 'FLAIR'"), ("T1w", "T1w", "both T1w"), ("T1w", "T2w", "not T2w of T1w")],
)
def test_what_cannot_be_made_is_refused(
    model: Path, dataset: Path, tmp_path: Path, source: str, target: str, told: str
) -> None:
    with pytest.raises(UHFError, match=told):
        modality_pairs(dataset, tmp_path / "Dataset002_Pairs", model, source=source, target=target, device="cpu")
    assert not (tmp_path / "Dataset002_Pairs").exists()
