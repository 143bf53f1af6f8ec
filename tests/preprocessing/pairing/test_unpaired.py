from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from helpers.pair_samples import AFFINE, LOW_AFFINE, high_field, low_field, movement, subject
from helpers.tiny_data import write_image
from helpers.workspace import threaded_pools
from nnunet_uhf.cli.convert_pairs import unpaired
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.pairing.unpaired import convert_unpaired

FIELDS = {"source_field_T": 0.064, "target_field_T": 3.0}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    still = movement((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    for seed, name in enumerate(("anna", "béla 2")):
        write_image(tmp_path / "lf" / f"{name}.nii.gz", low_field(subject(seed), still), LOW_AFFINE)
    write_image(tmp_path / "hf" / "anna.nii.gz", high_field(subject(7)), AFFINE)
    return tmp_path


def test_the_dataset_is_valid_and_says_which_domain_each_case_is_of(scans: Path) -> None:
    before = {path: path.read_bytes() for path in scans.rglob("*.nii.gz")}
    dataset = scans / "raw" / "Dataset741_Domains"
    unpaired(dataset, 0.064, 3.0, scans / "lf", scans / "hf", channel="T1w")
    with threaded_pools():
        verify_dataset_integrity(str(dataset), num_processes=1)
    description = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    assert description["channel_names"] == {"0": "T1w"}
    assert description["labels"] == {"background": 0, "brain": 1}
    assert description["uhf"] == {
        "unpaired": {
            "source": "LF",
            "target": "HF",
            **FIELDS,
            "domains": {"LF_anna": "LF", "LF_béla 2": "LF", "HF_anna": "HF"},
        }
    }
    assert {path: path.read_bytes() for path in before} == before
    assert (dataset / "imagesTr" / "HF_anna_0000.nii.gz").read_bytes() == before[scans / "hf" / "anna.nii.gz"]


def masks_of_one_folder(scans: Path) -> dict[str, Any]:
    return {"masks_lf": scans / "lf"}


def mask_missing(scans: Path) -> dict[str, Any]:
    write_image(scans / "masks" / "anna.nii.gz", (subject(7) > 0).astype(np.uint8), AFFINE)
    return {"masks_lf": scans / "masks", "masks_hf": scans / "masks"}


def not_stripped(scans: Path) -> dict[str, Any]:
    write_image(scans / "hf" / "anna.nii.gz", high_field(subject(7)) + 1, AFFINE)
    return {}


def no_such_folder(scans: Path) -> dict[str, Any]:
    return {"hf": scans / "absent"}


def number_in_use(scans: Path) -> dict[str, Any]:
    return {"source_field_T": -1.0}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (masks_of_one_folder, "give --masks-lf and --masks-hf"),
        (mask_missing, "holds no mask béla 2"),
        (not_stripped, "anna.nii.gz is not skull-stripped"),
        (no_such_folder, "is not a folder"),
        (number_in_use, "source_field_T is -1"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(scans: Path, damage: Any, reason: str) -> None:
    changes = {"lf": scans / "lf", "hf": scans / "hf", **FIELDS, **damage(scans)}
    with pytest.raises(UHFError, match=reason) as error:
        convert_unpaired(scans / "raw" / "Dataset741_Domains", **changes)
    assert "\n" not in str(error.value)
    assert not any((scans / "raw").glob("*"))
