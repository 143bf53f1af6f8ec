"""In which orientation preprocessed cases are stored, as nnU-Net's own readers left it beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from batchgenerators.utilities.file_and_folder_operations import write_pickle
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.orientation import common_orientation, stored_orientations

READERS = {"itk": SimpleITKIO, "nibabel": NibabelIO}


def preprocessed(folder: Path, case: str, orientation: str, reader: str) -> None:
    """The properties of an oblique image stored so, as preprocessing writes them."""
    a = np.radians(15)
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    affine[:3, :3] = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ affine[:3, :3]
    image = nibabel.Nifti1Image(np.ones((3, 4, 5), np.float32), affine)
    image = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(orientation)))
    path = folder / f"{case}_raw.nii.gz"
    nibabel.save(image, path)
    _, properties = READERS[reader]().read_images([str(path)])
    write_pickle(properties, str(folder / f"{case}.pkl"))


@pytest.mark.parametrize("reader", ["itk", "nibabel"])
@pytest.mark.parametrize("orientation", ["LAS", "RAS", "PIR", "ASL", "SAL"])
def test_the_readers_properties_tell_the_orientation(tmp_path: Path, orientation: str, reader: str) -> None:
    preprocessed(tmp_path, "a", orientation, reader)
    assert dict(stored_orientations(tmp_path)) == {orientation: 1}
    assert common_orientation(tmp_path, ["a"]) == orientation


def test_mixed_cases_are_counted_and_have_no_common_orientation(tmp_path: Path) -> None:
    for case, orientation in (("a", "PIR"), ("b", "LAS"), ("c", "LAS")):
        preprocessed(tmp_path, case, orientation, "itk")
    assert list(stored_orientations(tmp_path).items()) == [("LAS", 2), ("PIR", 1)]
    assert common_orientation(tmp_path, ["a", "b", "c"]) == "mixed"
    assert common_orientation(tmp_path, ["b", "c"]) == "LAS"
    assert common_orientation(tmp_path, ["missing"]) is None
    assert common_orientation(tmp_path / "none", []) is None


@pytest.mark.parametrize("properties", [{}, {"sitk_stuff": {"direction": (1.0, 0.0, 0.0, 1.0)}}])
def test_what_has_no_geometry_has_no_orientation(tmp_path: Path, properties: dict[str, Any]) -> None:
    write_pickle(properties, str(tmp_path / "a.pkl"))
    assert not stored_orientations(tmp_path)


def test_damaged_properties_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(UHFError, match=r"a\.pkl is damaged: preprocess the dataset again"):
        stored_orientations(tmp_path)


def test_of_very_many_cases_as_many_as_tell_are_looked_at_from_the_first_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnunet_uhf.nnunet.orientation.MOST", 3)
    preprocessed(tmp_path, "case_0", "LAS", "itk")
    for number in range(1, 9):
        (tmp_path / f"case_{number}.pkl").write_bytes((tmp_path / "case_0.pkl").read_bytes())
    preprocessed(tmp_path, "case_8", "PIR", "itk")
    assert dict(stored_orientations(tmp_path)) == {"LAS": 2, "PIR": 1}
