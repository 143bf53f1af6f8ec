"""Pairs say whether their low field was measured or simulated, by what lies beside the scans."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from helpers.low_field import PRESET, simulated
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.pairing.provenance import PairProvenance, provenance

FIELD = 0.36


@pytest.fixture
def low(subjects: Path) -> Path:
    return simulated(subjects / "images", subjects / "low", subjects / "labels").parent


def told(folder: Path, *, stated: Any = None, field_T: float = FIELD) -> PairProvenance:
    return provenance(sorted(folder.glob("*.nii.gz")), stated=stated, field_T=field_T)


def test_simulated_scans_are_declared_so_with_all_parameters_of_the_simulation(subjects: Path, low: Path) -> None:
    dataset = subjects / "raw" / "Dataset731_Pairs"
    arguments = ["--lf", low, "--hf", subjects / "images", "-o", dataset, "--field-lf", FIELD, "--field-hf", 3]
    with pytest.raises(SystemExit, match="0"):
        main(["convert", "paired", *map(str, arguments), "--registration", "none"])
    block = json.loads((dataset / "dataset.json").read_text())["uhf"]
    record = json.loads((low / "simulation.json").read_text())
    record.pop("cases")
    assert (block["route"], block["simulation"]) == ("simulated", record)
    assert record["preset"]["name"] == PRESET
    scan = nib.load(dataset / "imagesTr" / "anna_0000.nii.gz")
    assert bytes(scan.header["descrip"]).rstrip(b"\0") == b"SIMULATED 0.36 T T1w, nnunet-uhf"
    assert b"SIMULATED" not in bytes(nib.load(dataset / "imagesTr" / "anna_0001.nii.gz").header["descrip"])


def test_measured_scans_are_pairs_and_may_be_stated_to_be_simulated_elsewhere(subjects: Path) -> None:
    assert told(subjects / "images") == PairProvenance("paired")
    assert told(subjects / "images", stated="simulated") == PairProvenance("simulated")


def test_a_simulated_scan_is_known_by_its_header_where_the_record_is_lost(low: Path) -> None:
    (low / "simulation.json").unlink()
    assert told(low) == PairProvenance("simulated")


def test_a_scan_that_the_record_does_not_name_is_not_taken_for_simulated(subjects: Path, low: Path) -> None:
    shutil.copy(subjects / "images" / "anna.nii.gz", low / "dora.nii.gz")
    with pytest.raises(
        UHFError, match=r"anna\.nii\.gz is simulated and .*dora\.nii\.gz is not: make a dataset of each"
    ):
        told(low)


def test_what_the_user_says_must_not_contradict_the_files(subjects: Path, low: Path) -> None:
    with pytest.raises(UHFError, match="--route paired says otherwise"):
        told(low, stated="paired")
    with pytest.raises(UHFError, match=r"--field-lf is 0\.5, but .* simulated for 0\.36 T"):
        told(low, field_T=0.5)
    other = simulated(subjects / "images", subjects / "other", subjects / "labels", ratio=4).parent
    with pytest.raises(UHFError, match="simulated in different ways"):
        provenance([low / "anna.nii.gz", other / "carl.nii.gz"], stated=None, field_T=FIELD)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"cases": {}, "preset": 3}'])
def test_a_damaged_record_is_named(low: Path, content: str) -> None:
    (low / "simulation.json").write_text(content)
    with pytest.raises(UHFError, match=r"simulation\.json is .*simulate again"):
        told(low)
