"""The SIQT benchmark: who is held out, what is measured, what the table says."""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest
from rich.console import Console
from scipy.ndimage import gaussian_filter

from helpers.support import REPOSITORY
from helpers.tiny_data import write_image
from nnunet_uhf.preprocessing.low_field.slice_profile import fill_slices

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
THICK = AFFINE @ np.diag([1, 1, 4, 1])


@pytest.fixture
def siqt(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("siqt")


def places(siqt: ModuleType, folder: Path) -> Any:
    return siqt.Places(folder / "data", folder / "out")


def test_no_subject_is_in_two_groups(siqt: ModuleType, tmp_path: Path) -> None:
    for number in range(93):
        path = tmp_path / "data" / "images" / f"sub_{number:02d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    job = siqt.Job()
    groups = siqt.subjects(job, places(siqt, tmp_path))
    sizes = [job.training_subjects, job.held_out_subjects, job.file_subjects]
    assert [len(group) for group in groups] == sizes
    assert len({case for group in groups for case in group}) == sum(sizes)


def test_files_are_judged_against_their_cubic_interpolation_in_the_targets_geometry(
    siqt: ModuleType, tmp_path: Path
) -> None:
    """An image equal to the target up to gain and offset is perfect; one equal to the spline gains nothing."""
    where, job = places(siqt, tmp_path), siqt.Job(training_subjects=0, held_out_subjects=0, file_subjects=2)
    rng = np.random.default_rng(0)
    for case in ("a", "b"):
        truth = (100 + 300 * gaussian_filter(rng.standard_normal((20, 22, 24)), 1.5)).clip(1).astype(np.float32)
        slices = truth[..., ::4]
        spline = fill_slices(slices, ratio=4, size=24, axis=2)
        write_image(where.data / "images" / f"{case}.nii.gz", truth, AFFINE)
        write_image(where.out / "targets" / f"{case}.nii.gz", truth, AFFINE)
        write_image(where.out / "thick_slices" / f"{case}.nii.gz", slices, THICK)
        made = 3 * truth - 40 if case == "a" else 0.5 * spline + 7
        write_image(where.out / "enhanced" / f"{case}.nii.gz", made, AFFINE)
    perfect, spline = siqt.of_the_files(job, where)
    assert perfect["siqt"]["psnr"] > 80
    assert perfect["cubic"]["psnr"] < 60
    assert spline["siqt"]["psnr"] == pytest.approx(spline["cubic"]["psnr"], abs=1e-2)
    shown = io.StringIO()
    Console(file=shown, width=200).print(siqt.table("Files", [perfect, spline]))
    assert "Files: 2 subjects" in shown.getvalue()
    shifted = nibabel.load(where.out / "enhanced" / "a.nii.gz").get_fdata().astype(np.float32)
    write_image(where.out / "enhanced" / "a.nii.gz", shifted, THICK)
    with pytest.raises(RuntimeError, match="not the geometry"):
        siqt.of_the_files(job, where)


def test_the_fold_is_read_from_nnunets_validation(siqt: ModuleType, tmp_path: Path) -> None:
    where, job = places(siqt, tmp_path), siqt.Job()
    summary = siqt.fold(job, where).summary
    summary.parent.mkdir(parents=True)
    row = {"case": "a", "prediction": {"psnr": 25.0}, "prediction_fitted": {"psnr": 30.0}, "input": {"psnr": 27.0}}
    summary.write_text(json.dumps({"metric_per_case": [row]}))
    assert siqt.of_the_fold(job, where) == [{"case": "a", "siqt": {"psnr": 30.0}, "cubic": {"psnr": 27.0}}]
