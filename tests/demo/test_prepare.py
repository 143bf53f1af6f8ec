from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_uhf.demo import prepare
from nnunet_uhf.demo.settings import PAIRS, PLANS, TISSUES_DATASET, DemoSettings, Folders
from nnunet_uhf.errors import UHFError

SETTINGS = DemoSettings(subjects=7, held_out=2, shape=(24, 28, 24), spacing_mm=7.0)


def planned(spacing: list[float], median: list[int]) -> dict[str, object]:
    return {
        "data_identifier": "nnUNetPlans_x",
        "spacing": spacing,
        "median_image_size_in_voxels": median,
        "architecture": {"network_class_name": "some.Net", "arch_kwargs": {"conv_bias": True, "n_stages": 6}},
    }


def test_held_out_subjects_are_in_no_training_folder(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    prepare.write_phantoms(SETTINGS, folders)
    low_field = folders.phantoms("low_field")
    low_field.mkdir()
    for path in folders.phantoms("high_field").iterdir():
        (low_field / path.name).write_bytes(path.read_bytes())
    prepare.write_datasets(SETTINGS, folders)
    prepare.write_datasets(SETTINGS, folders)  # a stage may be repeated
    for dataset in (PAIRS, TISSUES_DATASET):
        training = {path.name for path in (folders.raw / dataset).glob("*Tr/*")}
        assert training
        assert not any(name.startswith(tuple(SETTINGS.test)) for name in training)
    assert {path.name for path in folders.test_labels.iterdir()} == {f"{name}.nii.gz" for name in SETTINGS.test}
    description = json.loads((folders.raw / PAIRS / "dataset.json").read_text())
    assert description["uhf"]["route"] == "simulated"
    image = nib.load(folders.raw / PAIRS / "imagesTr" / "phantom_01_0001.nii.gz")
    labels = nib.load(folders.raw / PAIRS / "labelsTr" / "phantom_01.nii.gz")
    assert np.array_equal(image.affine, labels.affine)


def test_small_plans_keep_the_preprocessed_data_and_their_divisibility() -> None:
    plans = {
        "plans_name": "nnUNetPlans",
        "configurations": {
            "2d": planned([3.5, 3.5], [51, 41]),
            "3d_fullres": planned([3.5, 3.5, 3.5], [41, 51, 41]),
            "3d_lowres": {},
        },
    }
    patches = prepare.patch_sizes(plans, ("2d", "3d_fullres"), parts={"2d": 0.8, "3d_fullres": 0.65}, stages=4)
    small = prepare.shrink_plans(
        plans,
        patches=patches,
        features={"2d": 12, "3d_fullres": 8},
        batch={"2d": 8, "3d_fullres": 2},
        stages=4,
    )
    assert small["plans_name"] == PLANS
    assert set(small["configurations"]) == {"2d", "3d_fullres"}
    fullres = small["configurations"]["3d_fullres"]
    assert fullres["patch_size"] == [24, 32, 24]
    assert (fullres["batch_size"], small["configurations"]["2d"]["batch_size"]) == (2, 8)
    assert small["configurations"]["2d"]["patch_size"] == [40, 32]
    assert fullres["data_identifier"] == "nnUNetPlans_x"
    kwargs = fullres["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [8, 16, 32, 64]
    assert kwargs["conv_bias"] is True
    assert plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["n_stages"] == 6


def test_too_few_subjects_are_refused() -> None:
    with pytest.raises(UHFError, match="five-fold split"):
        DemoSettings(subjects=8, held_out=4)


def test_configurations_that_a_demo_has_not_are_refused() -> None:
    for asked in ((), ("3d_lowres",), ("2d", "3d_lowres")):
        with pytest.raises(UHFError, match="the demo trains 2d, 3d_fullres"):
            DemoSettings(configurations=asked)
