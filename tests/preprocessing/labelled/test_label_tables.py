"""The tables of label numbers: the lists they must agree with, and sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from helpers.support import shared_data
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.labels import tells_sides_apart
from nnunet_uhf.preprocessing.labelled.freesurfer_labels import FREESURFER_TABLE
from nnunet_uhf.preprocessing.labelled.label_table import LabelTable
from nnunet_uhf.preprocessing.labelled.malc_labels import MALC_TABLE
from nnunet_uhf.preprocessing.labelled.source_image import SourceImage
from nnunet_uhf.preprocessing.labelled.structures import STRUCTURES, without_side

TABLES = {"MICCAI 2012": MALC_TABLE, "FreeSurfer": FREESURFER_TABLE}


def source_image(data: npt.NDArray[Any]) -> SourceImage:
    return SourceImage(data, np.eye(4), Path("made.nii"), oriented=True, geometry=nib.Nifti1Header(), other=np.eye(4))


@pytest.mark.parametrize("name", TABLES)
def test_every_structure_has_a_number_and_every_number_a_structure_or_the_background(name: str) -> None:
    table = TABLES[name]
    assert set(STRUCTURES) <= set(table.numbers.values())
    sideless = {without_side(structure) for structure in STRUCTURES}
    assert set(table.numbers.values()) <= {*STRUCTURES, *sideless, None}


@pytest.mark.parametrize("name", TABLES)
def test_left_and_right_have_equally_many_numbers(name: str) -> None:
    numbers = [structure for structure in TABLES[name].numbers.values() if structure]
    for structure in set(STRUCTURES):
        other = structure.replace("Left-", "Right-")
        assert numbers.count(structure) == numbers.count(other)


def test_the_structures_are_twelve_pairs_and_three_single_ones() -> None:
    assert len(STRUCTURES) == 27
    assert len(MALC_TABLE.merged().structures) == 15
    assert tells_sides_apart(STRUCTURES)
    assert not tells_sides_apart(MALC_TABLE.merged().structures)
    assert tells_sides_apart(["hippocampus right"])
    assert tells_sides_apart(["ctx-lh-insula"])
    assert not tells_sides_apart(["bright lesion", "cleft"])


def test_the_structures_are_numbered_as_in_the_regions_of_the_shared_scans() -> None:
    regions = json.loads((shared_data() / "ixi_hh_2mm" / "labels.json").read_text())["region"]
    assert MALC_TABLE.label_names == regions


def test_a_number_without_side_goes_to_the_nearest_side_in_mm() -> None:
    table = LabelTable(("Left-WM", "Right-WM"), {1: "Left-WM", 2: "Right-WM", 77: "WM"})
    data = np.zeros((3, 9, 3), dtype=np.int16)
    data[1, 0, 1], data[1, 8, 1], data[1, 3, 1] = 1, 2, 77
    source = source_image(data)
    assert table.apply(source)[1, 3, 1] == 1
    data[1, 3, 1], data[1, 5, 1] = 0, 77
    assert table.apply(source)[1, 5, 1] == 2
    assert table.merged().apply(source)[1, 5, 1] == 1
    data[data != 77] = 0
    with pytest.raises(UHFError, match="WM without a side"):
        table.apply(source)


def test_more_structures_than_a_byte_holds_are_kept_apart() -> None:
    names = tuple(f"region {index}" for index in range(300))
    table = LabelTable(names, {1000 + index: name for index, name in enumerate(names)})
    data = np.array([[[0, 1000, 1299]]], dtype=np.float32)
    labels = table.apply(source_image(data))
    assert labels.dtype == np.int16
    assert labels.ravel().tolist() == [0, 1, 300]
