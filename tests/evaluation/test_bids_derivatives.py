from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.report_samples import AFFINE, dataset_json, truth
from helpers.tiny_data import write_image
from nnunet_uhf.cli.run import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.bids_derivatives import write_derivatives


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    folder = tmp_path / "predictions"
    for name, case in (("sub-01_ses-a", "case_01"), ("sub-02", "case_02"), ("case_03", "case_03")):
        write_image(folder / f"{name}.nii.gz", truth(case), AFFINE)
    (folder / "dataset.json").write_text(json.dumps(dataset_json()))
    return folder


def test_predictions_become_a_derivative_dataset_with_names_and_volumes(predictions: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bids", "-i", str(predictions), "-o", str(tmp_path / "out"), "--desc", "guided"])
    assert left.value.code == 0
    out = tmp_path / "out"
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*_dseg.nii.gz")) == [
        "sub-01/ses-a/anat/sub-01_ses-a_desc-guided_dseg.nii.gz",
        "sub-02/anat/sub-02_desc-guided_dseg.nii.gz",
        "sub-case03/anat/sub-case03_desc-guided_dseg.nii.gz",
    ]
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert [entry["Name"] for entry in description["GeneratedBy"]] == ["nnunet-uhf", "nnunetv2"]
    names = [line.split("\t") for line in (out / "desc-guided_dseg.tsv").read_text().splitlines()]
    assert names == [["index", "name"], ["0", "background"], ["1", "CSF"], ["2", "GM"], ["3", "WM"]]
    rows = [line.split("\t") for line in (out / "desc-guided_volumes.tsv").read_text().splitlines()]
    voxel = abs(np.linalg.det(AFFINE[:3, :3]))
    (white,) = (float(row[3]) for row in rows if row[:3] == ["sub-02", "n/a", "WM"])
    assert white == pytest.approx(voxel * np.sum(truth("case_02") == 3))
    assert ["sub-01", "ses-a", "GM"] in [row[:3] for row in rows]
    written = nibabel.load(out / "sub-02/anat/sub-02_desc-guided_dseg.nii.gz")
    np.testing.assert_array_equal(written.get_fdata(), truth("case_02"))
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
    assert not list(out.glob("volumes.*"))


def test_label_maps_are_packed_whole_numbers_however_they_were_stored(predictions: Path, tmp_path: Path) -> None:
    labels = truth("case_01")
    write_image(predictions / "sub-04.nii.gz", (labels * 1.0001).astype(np.float32)[..., None], AFFINE)
    (predictions / "sub-02.nii.gz").rename(predictions / "sub-02.NII.GZ")
    write_derivatives(predictions, tmp_path / "out")
    for case, expected in (("sub-04", labels), ("sub-02", truth("case_02"))):
        written = nibabel.load(tmp_path / f"out/{case}/anat/{case}_desc-nnunet_dseg.nii.gz")
        assert written.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(written.dataobj), expected)


def test_two_cases_of_one_subject_are_refused_and_nothing_is_written(predictions: Path, tmp_path: Path) -> None:
    write_image(predictions / "sub-02_run-2.nii.gz", truth("case_04"), AFFINE)
    with pytest.raises(UHFError, match="sub-02_run-2"):
        write_derivatives(predictions, tmp_path / "out")
    with pytest.raises(UHFError, match="letters and digits"):
        write_derivatives(predictions, tmp_path / "out", desc="a b")
    assert not (tmp_path / "out").exists()
