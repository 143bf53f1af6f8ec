"""A teacher's model folder reconstructs new high-field scans: the ceiling of the keeper that learns from it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from rich.console import Console

from helpers.support import fit, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer

MODEL = "UHFTeacherTrainer__nnUNetPlans__2d"


@pytest.fixture(scope="module")
def trained(nnunet_module: Workspace) -> tuple[Any, Any, Path]:
    """A teacher of a few steps; its trainer, dataset and model folder."""
    dataset = nnunet_module.dataset("pairs")
    torch.manual_seed(0)
    trainer = fit(tiny_trainer(UHFTeacherTrainer, dataset, "2d"), validate=True)
    return trainer, dataset, nnunet_module.results / dataset.name / MODEL


def test_the_image_of_a_held_out_scan_is_that_of_the_teachers_validation_in_the_targets_intensities(
    trained: tuple[Any, Any, Path], tmp_path: Path
) -> None:
    trainer, dataset, model = trained
    (case, *_) = trainer.do_split()[1]
    shown = io.StringIO()
    scan = dataset.raw / "imagesTr" / f"{case}_0001.nii.gz"
    (path,) = enhance(scan, tmp_path, model, device="cpu", progress=False, console=Console(file=shown, width=300))
    made = nibabel.load(path).get_fdata()
    validated = nibabel.load(model / "fold_0" / "validation" / f"{case}.nii.gz").get_fdata()
    inside = made != 0
    note = json.loads(path.with_name(f"{case}_0001.json").read_text())
    assert made.shape == validated.shape
    # the validation is in normalised intensities
    fit_of = np.polyfit(validated[inside], made[inside], 1)
    np.testing.assert_allclose(made[inside], np.polyval(fit_of, validated[inside]), atol=1e-2 * np.ptp(made))
    assert (note["channel"], note["source_field_T"], note["target_field_T"]) == ("HF", 3.0, 3.0)
    assert "the teacher keeps of an image at 3 T" in note["description"]
    assert "inputs are not checked" not in shown.getvalue()


def test_a_teacher_has_no_uncertainty(trained: tuple[Any, Any, Path], tmp_path: Path) -> None:
    _, dataset, model = trained
    scan = dataset.raw / "imagesTr" / "case_00_0001.nii.gz"
    with pytest.raises(UHFError, match="uncertainty"):
        enhance(scan, tmp_path, model, device="cpu", progress=False, uncertainty=True)
