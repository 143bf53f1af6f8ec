"""Scans of several modalities become one dataset: one grid, missing ones, thick ones, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from nnunet_uhf.cli.run import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.pairing.modalities import ModalityOptions, convert_modalities, modality_table


def scan(path: Path, *, shape: tuple[int, ...] = (12, 14, 16), steps: tuple[float, ...] = (1, 1, 1)) -> Path:
    rng = np.random.default_rng(len(path.name))
    image = rng.uniform(50, 150, shape).astype(np.float32)
    inside = np.zeros(shape, bool)
    inside[3:-3, 3:-3, 1:-1] = True
    image[~inside] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([*steps, 1])), path)
    return path


def table(folder: Path, rows: list[str], *, columns: str = "case,T1w,T2w") -> Path:
    path = folder / "scans.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def convert(folder: Path, rows: list[str], **uhf: Any) -> Path:
    cases = modality_table(table(folder, rows), ["T1w", "T2w"])
    return convert_modalities(
        folder / "Dataset001_Made",
        cases,
        uhf={"modalities": {"T1w": 3.0, "T2w": 1.5}, **uhf},
        options=ModalityOptions(grid="T1w", registration="none", thick=uhf.get("thick", {})),
    )


def test_a_modality_that_a_case_lacks_is_a_channel_of_zeros(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1"):
        scan(tmp_path / f"{name}.nii.gz")
    dataset = convert(tmp_path, ["anna,a1.nii.gz,a2.nii.gz", "bert,b1.nii.gz,"])
    images = {path.name: nibabel.load(path).get_fdata() for path in (dataset / "imagesTr").iterdir()}
    assert set(images) == {f"{case}_{n:04d}.nii.gz" for case in ("anna", "bert") for n in (0, 1)}
    assert not images["bert_0001.nii.gz"].any()
    np.testing.assert_allclose(images["anna_0001.nii.gz"], nibabel.load(tmp_path / "a2.nii.gz").get_fdata())
    labels = nibabel.load(dataset / "labelsTr" / "anna.nii.gz").get_fdata()
    assert set(np.unique(labels)) == {0, 1}
    assert json.loads((dataset / "dataset.json").read_text())["uhf"]["modalities"] == {"T1w": 3.0, "T2w": 1.5}


def test_thick_slices_fill_their_voxels(tmp_path: Path) -> None:
    scan(tmp_path / "a1.nii.gz")
    scan(tmp_path / "a2.nii.gz", shape=(12, 14, 4), steps=(1, 1, 4))
    dataset = convert(tmp_path, ["anna,a1.nii.gz,a2.nii.gz"], thick={"T2w": 4})
    image = nibabel.load(dataset / "imagesTr" / "anna_0001.nii.gz").get_fdata()
    thick = nibabel.load(tmp_path / "a2.nii.gz").get_fdata()
    for k in range(16):
        np.testing.assert_allclose(image[..., k], thick[..., k // 4])


def test_thick_slices_of_another_grid_are_refused(tmp_path: Path) -> None:
    scan(tmp_path / "a1.nii.gz")
    scan(tmp_path / "a2.nii.gz", shape=(12, 14, 4), steps=(1, 1, 3.9))
    with pytest.raises(UHFError, match="do not lie on every 4th slice"):
        convert(tmp_path, ["anna,a1.nii.gz,a2.nii.gz"], thick={"T2w": 4})
    assert not (tmp_path / "Dataset001_Made").exists()


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        (["anna,,"], "case,T1w,T2w", "case anna has no scan"),
        (["anna,none.nii.gz,"], "case,T1w,T2w", "none.nii.gz does not exist, named in line 2"),
        (["anna,a1.nii.gz"], "case,T1w", "no column 'T2w'"),
        (["anna,a1.nii.gz,,x"], "case,T1w,T2w,FLAIR", "column 'FLAIR', which --field does not name"),
        (["anna,a1.nii.gz,", "anna,a1.nii.gz,"], "case,T1w,T2w", "'anna' again"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, rows: list[str], columns: str, told: str) -> None:
    scan(tmp_path / "a1.nii.gz")
    with pytest.raises(UHFError, match=told):
        modality_table(table(tmp_path, rows, columns=columns), ["T1w", "T2w"])


def test_what_the_task_does_not_allow_is_told_before_any_scan_is_read(tmp_path: Path) -> None:
    (tmp_path / "a1.nii.gz").write_text("no scan")
    with pytest.raises(UHFError, match=r"uhf.sources is \['FLAIR'\]"):
        convert(tmp_path, ["anna,a1.nii.gz,"], sources=["FLAIR"])


def test_the_command_registers_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan(tmp_path / "a1.nii.gz")
    scan(tmp_path / "a2.nii.gz")
    path = table(tmp_path, ["anna,a1.nii.gz,a2.nii.gz"])
    output = tmp_path / "Dataset001_Made"
    with pytest.raises(SystemExit) as left:
        main(
            ["convert", "modalities", "--csv", str(path), "-o", str(output), "--field", "T1w=3", "T2w=1.5",
             "--registration", "none", "--preset", "tiny", "--targets", "T2w"]
        )  # fmt: skip
    assert left.value.code == 0
    assert "wrote" in capsys.readouterr().out
    uhf = json.loads((output / "dataset.json").read_text())["uhf"]
    assert uhf == {
        "modalities": {"T1w": 3.0, "T2w": 1.5}, "targets": ["T2w"], "architecture": {"preset": "tiny"},
    }  # fmt: skip
