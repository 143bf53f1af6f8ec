"""`compare` of .nrrd and .mha models, and of cases that cannot be measured: rows of their own, the others are done."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from helpers.report_samples import AFFINE, CASES, DATASET, spoiled, truth, write_labels, write_model, write_raw
from helpers.tiny_data import write_image
from nnunet_uhf.cli import main
from nnunet_uhf.errors import Odd
from nnunet_uhf.evaluation.volumes import measure_volumes
from nnunet_uhf.report.compare import compare

FEW = CASES[:4]
GOOD = {case: spoiled(case, 0.1) for case in FEW}
BAD = {case: spoiled(case, 0.2) for case in FEW}


def converted(folder: Path, ending: str) -> Path:
    """Every NIfTI file below a folder as nnU-Net's SimpleITK reader would have written it with another ending."""
    for path in list(folder.rglob("*.nii.gz")):
        image = SimpleITK.ReadImage(str(path))
        SimpleITK.WriteImage(image, str(path).replace(".nii.gz", ending))
        path.unlink()
    for path in folder.rglob("dataset.json"):
        path.write_text(path.read_text().replace(".nii.gz", ending))
    return folder


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_models_of_other_formats_have_the_scores_and_pictures_of_the_same_nifti_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    records = {}
    for name in ("nifti", "other"):
        root = tmp_path / name
        monkeypatch.setenv("nnUNet_raw", str(root / "raw"))
        write_raw(root, cases=FEW)
        models = [write_model(root, trainer, labels) for trainer, labels in (("plain", BAD), ("guided", GOOD))]
        if name == "other":
            converted(root, ending)
        records[name] = compare(models, [], root / "out")
        page = (root / "out" / "index.html").read_text()
        assert ", axial slice: image" in page  # the scan was found, read, and lies on the label maps
    for part in ("cases", "summaries", "results", "nsd_tolerance_mm", "warnings"):
        assert records["nifti"][part] == records["other"][part]
    assert records["other"]["cases"] == list(FEW)


def test_volumes_of_nrrd_files_are_those_of_nifti(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1, "b": 2, "c": 3}}))
    nifti, other = (write_labels(tmp_path / name, GOOD) for name in ("nifti", "other"))
    converted(other, ".nrrd")
    tables = [
        measure_volumes([folder], tmp_path / f"{folder.name}.csv", dataset_json=tmp_path / "dataset.json")["cases"]
        for folder in (nifti, other)
    ]
    assert tables[0] == tables[1]


def test_a_folder_without_label_maps_says_which_formats_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "case.png").write_bytes(b"")
    with pytest.raises(SystemExit) as left:
        main(["compare", "-pred", str(tmp_path / "a"), str(tmp_path / "a"), "-o", str(tmp_path / "out")])
    assert left.value.code == 2
    assert "holds no .nii.gz, .nii, .nrrd, .mha or .gipl file" in " ".join(capsys.readouterr().err.split())


def test_cases_that_cannot_be_measured_are_rows_of_their_own_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_raw(tmp_path)
    folders = [
        write_labels(tmp_path / name, {case: spoiled(case, part) for case in CASES})
        for name, part in (("bad", 0.2), ("good", 0.1))
    ]
    grid, cut, half, lost = CASES[1], CASES[2], CASES[4], CASES[5]
    write_image(folders[1] / f"{grid}.nii.gz", truth(grid)[1:], AFFINE)
    path = folders[0] / f"{cut}.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    write_image(folders[1] / f"{half}.nii.gz", truth(half).astype(np.float32) / 2, AFFINE)
    reference = tmp_path / "raw" / DATASET / "labelsTr"
    (reference / f"{lost}.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    command = ["compare", "-pred", *map(str, folders), "-ref", str(reference), "-o", str(out), "-np", "1"]
    with pytest.raises(SystemExit) as left:
        main(command)
    assert left.value.code == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "4 cases were left out, the others are done: " in told
    record = json.loads((out / "compare.json").read_text())
    assert record["cases"] == [case for case in CASES if case not in (grid, cut, half, lost)]
    assert set(record["not_measured"]) == {grid, cut, half, lost}
    assert "has shape" in record["not_measured"][grid]
    with (out / "compare.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "not measured"]
    assert [(row["case"], row["value"]) for row in rows] == sorted(record["not_measured"].items())
    page = (out / "index.html").read_text()
    for case in (grid, cut, half, lost):
        assert f"{case} is left out, it could not be measured: " in page


def test_the_scores_of_the_others_are_what_they_are_without_the_odd_case(tmp_path: Path) -> None:
    reference = write_labels(tmp_path / "truth", {case: truth(case) for case in FEW})
    first = [write_labels(tmp_path / "1" / name, labels) for name, labels in (("bad", BAD), ("good", GOOD))]
    second = [write_labels(tmp_path / "2" / name, labels) for name, labels in (("bad", BAD), ("good", GOOD))]
    (first[0] / f"{FEW[0]}.nii.gz").unlink()
    write_image(second[0] / f"{FEW[0]}.nii.gz", truth(FEW[0])[:, 1:], AFFINE)
    odd = Odd()
    without = compare([], first, tmp_path / "1" / "out", reference=reference)
    with_odd = compare([], second, tmp_path / "2" / "out", reference=reference, odd=odd)
    assert list(odd.reasons) == [FEW[0]]
    assert with_odd["results"] == without["results"]
    assert with_odd["summaries"] == without["summaries"]


def test_a_named_dataset_json_counts_before_that_of_the_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write_labels(tmp_path / "labelsTr", {case: truth(case) for case in FEW[:2]})
    folders = [
        write_labels(tmp_path / name, {case: spoiled(case, part) for case in FEW[:2]})
        for name, part in (("a", 0.2), ("b", 0.1))
    ]
    beside = {"labels": {"background": 0, "x": 1, "y": 2, "z": 3}, "channel_names": {"0": "LF"}}
    (tmp_path / "dataset.json").write_text(json.dumps(beside))
    named = tmp_path / "named.json"
    named.write_text(
        json.dumps({"labels": {"background": 0, "fluid": 1, "brain": [2, 3]}, "regions_class_order": [1, 2]})
    )
    words = ["compare", "-pred", *map(str, folders), "-ref", str(reference), "-np", "1"]
    found = []
    for number, more in enumerate(([], ["-djson", str(named)])):
        out = tmp_path / f"out{number}"
        with pytest.raises(SystemExit) as left:
            main([*words, *more, "-o", str(out)])
        assert left.value.code == 0
        record = json.loads((out / "compare.json").read_text())
        found.append({row["structure"] for row in record["summaries"]} - {"mean"})
    assert found == [{"x", "y", "z"}, {"fluid", "brain"}]
    capsys.readouterr()
    named.write_text("{}")
    with pytest.raises(SystemExit) as left:
        main([*words, "-djson", str(named), "-o", str(tmp_path / "none")])
    assert left.value.code == 2
    assert "named.json" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
