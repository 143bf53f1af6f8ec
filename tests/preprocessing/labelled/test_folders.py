"""`convert folders`: images and label maps of the same names, the case most people have."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from helpers.tiny_data import write_image
from helpers.workspace import threaded_pools
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.labelled.folders import convert_folders
from nnunet_uhf.preprocessing.labelled.scans import ConversionOptions

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
NUMBERS = (10, 4, 77)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folders T1, FLAIR and drawn of three cases; labels are 4, 10 and 77."""
    for number, case in enumerate("abc"):
        rng = np.random.default_rng(number)
        labels = np.zeros((8, 8, 6), np.int16)
        for place, value in enumerate(NUMBERS):
            labels[2 * place : 2 * place + 2] = value
        for folder, suffix in (("T1", "_T1w"), ("FLAIR", "")):
            image = (labels + rng.normal(0, 1, labels.shape)).astype(np.float32)
            write_image(tmp_path / folder / f"{case}{suffix}.nii.gz", image, AFFINE)
        write_image(tmp_path / "drawn" / f"{case}_seg.nii.gz", labels, AFFINE)
    return tmp_path


def names(root: Path) -> Path:
    path = root / "names.json"
    path.write_text(json.dumps({"4": "fluid", "10": "tissue", "77": None}))
    return path


def test_two_channels_and_named_labels_become_a_dataset_that_nnunet_takes(root: Path) -> None:
    dataset = root / "raw" / "Dataset102_Mine"
    words = ["-i", root / "T1", root / "FLAIR", "--labels", root / "drawn", "-o", dataset, "--channel", "T1w", "FLAIR"]
    words += ["--image-suffix", "_T1w", "", "--label-suffix", "_seg", "--mapping", names(root), "--test", "c"]
    with pytest.raises(SystemExit) as left:
        main(["convert", "folders", *map(str, words)])
    assert left.value.code == 0
    described = json.loads((dataset / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "T1w", "1": "FLAIR"}
    assert described["labels"] == {"background": 0, "fluid": 1, "tissue": 2}
    found = np.asarray(nib.load(dataset / "labelsTr" / "a.nii.gz").dataobj)
    source = np.asarray(nib.load(root / "drawn" / "a_seg.nii.gz").dataobj)
    assert np.array_equal(found, np.select([source == 4, source == 10], [1, 2]))
    assert (dataset / "imagesTs" / "c_0001.nii.gz").is_file()
    with threaded_pools():
        verify_dataset_integrity(str(dataset), 1)


def test_without_names_every_number_is_a_structure_and_a_warning_says_so(root: Path) -> None:
    done = convert_folders(
        [root / "FLAIR"], root / "drawn", root / "Dataset103_Plain", channels=["FLAIR"], label_suffix="_seg"
    )
    labels = json.loads((done.dataset / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "label_4": 1, "label_10": 2, "label_77": 3}
    assert "name them by --mapping" in done.warnings[0]


def test_a_test_case_needs_no_labels_and_any_other_does(root: Path) -> None:
    (root / "drawn" / "b_seg.nii.gz").unlink()
    given = [root / "FLAIR"], root / "drawn", root / "Dataset104_Test"
    options = {"channels": ["FLAIR"], "label_suffix": "_seg"}
    with pytest.raises(UHFError, match=r"drawn holds no label map of b: add it, or leave such cases out"):
        convert_folders(*given, **options)
    done = convert_folders(*given, **options, options=ConversionOptions(test=["b"]))
    assert (done.dataset / "imagesTs" / "b_0000.nii.gz").is_file()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"channels": ["T1w", "FLAIR"]}, "one for each"),
        ({"image_suffixes": ["", "_x"]}, "--image-suffix: one for each"),
        ({"label_suffix": "_mask"}, "no file whose name ends in _mask"),
        ({"image_suffixes": [""]}, r"holds no image of a"),
    ],
)
def test_what_does_not_fit_together_is_one_line_and_leaves_nothing(
    root: Path, changed: dict[str, object], message: str
) -> None:
    options = {"image_suffixes": ["_T1w"], "label_suffix": "_seg", **changed}
    with pytest.raises(UHFError, match=message):
        convert_folders([root / "T1"], root / "drawn", root / "Dataset105_None", **options)
    assert not (root / "Dataset105_None").exists()
