"""Label maps that hold 1.00005 in place of 1: one rule for all that read labels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers.low_field import simulated
from helpers.made_scans import AFFINE
from helpers.tiny_data import write_image
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.label_maps import inside, label_values, read_labels
from nnunet_uhf.preprocessing.datasets.write import write_segmentation_dataset
from nnunet_uhf.preprocessing.labelled.bids import convert_bids
from nnunet_uhf.preprocessing.labelled.scans import ConversionOptions


def save_scaled(path: Path, labels: np.ndarray) -> Path:
    """As nibabel stores floats in int16: with a scale, so that they come back not quite whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(labels.astype(np.float64), AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, path)
    read = nib.load(path).get_fdata()
    assert (read != np.rint(read)).any()
    return path


def test_values_within_a_thousandth_are_their_whole_number_and_others_are_refused(tmp_path: Path) -> None:
    labels = np.arange(7.0).repeat(9).reshape(7, 3, 3)
    path = save_scaled(tmp_path / "a.nii.gz", labels)
    np.testing.assert_array_equal(read_labels(path)[0], labels)
    assert label_values(path) == list(range(7))
    np.testing.assert_array_equal(inside(nib.load(path).get_fdata()), labels > 0)
    write_image(path, (labels + 0.002).astype(np.float32), AFFINE)
    with pytest.raises(UHFError, match=r"a\.nii\.gz holds values that are no whole numbers"):
        read_labels(path)


def test_a_scaled_label_map_simulates_as_the_same_one_of_whole_numbers_does(subjects: Path) -> None:
    mapping = {"csf": (1, 5), "gm": 2, "wm": (3, 6)}
    for path in sorted((subjects / "labels").iterdir()):
        labels = np.asarray(nib.load(path).dataobj).astype(float)
        labels[labels == 1] = np.where(np.arange((labels == 1).sum()) % 2, 1, 5)
        labels[0, 0, 0] = 6  # nibabel scales by the range
        write_image(subjects / "whole" / path.name, labels.astype(np.uint8), nib.load(path).affine)
        image = nib.Nifti1Image(labels, nib.load(path).affine)
        image.set_data_dtype(np.int16)
        (subjects / "scaled").mkdir(exist_ok=True)
        nib.save(image, subjects / "scaled" / path.name)
    made = [
        simulated(subjects / "images", subjects / f"low_{kind}", subjects / kind, tissues={"numbers": mapping}).parent
        for kind in ("whole", "scaled")
    ]
    for path in made[0].glob("*.nii.gz"):
        np.testing.assert_array_equal(nib.load(path).get_fdata(), nib.load(made[1] / path.name).get_fdata())


def test_converters_write_whole_numbers(tmp_path: Path) -> None:
    labels = np.arange(7).repeat(9).reshape(7, 3, 3)
    scan = np.random.default_rng(0).random(labels.shape).astype(np.float32)
    write_image(tmp_path / "images" / "a.nii.gz", scan, AFFINE)
    save_scaled(tmp_path / "labels" / "a.nii.gz", labels)
    names = {"background": 0, **{f"part {value}": value for value in range(1, 7)}}
    written = write_segmentation_dataset(
        tmp_path / "Dataset701_Parts",
        channels={"T1w": case_files(tmp_path / "images")},
        labels=case_files(tmp_path / "labels"),
        label_names=names,
    )
    study = tmp_path / "study"
    write_image(study / "sub-1/anat/sub-1_T1w.nii.gz", scan, AFFINE)
    save_scaled(study / "derivatives/p/sub-1/anat/sub-1_dseg.nii.gz", labels)
    mapping = tmp_path / "names.json"
    mapping.write_text('\ufeff{"1": "a", "2": "b", "3": "c", "4": "d", "5": "e", "6": "f"}', encoding="utf-8")
    bids = convert_bids(study, tmp_path / "Dataset702_Bids", options=ConversionOptions(mapping=mapping)).dataset
    for path in (written / "labelsTr" / "a.nii.gz", bids / "labelsTr" / "sub-1.nii.gz"):
        assert nib.load(path).get_data_dtype().kind in "iu"
        np.testing.assert_array_equal(np.asanyarray(nib.load(path).dataobj), labels)
