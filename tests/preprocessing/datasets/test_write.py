from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from helpers.low_field import simulated
from helpers.workspace import threaded_pools
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.preprocessing.datasets.write import write_paired_dataset, write_segmentation_dataset

LABELS = {"background": 0, "CSF": 1, "GM": 2, "WM": 3}


@pytest.fixture
def low_field(subjects: Path) -> Path:
    """Simulated low-field scans of the made subjects; returns the folder of all."""
    simulated(subjects / "images", subjects / "low", subjects / "labels", preset="flair_0.36T")
    return subjects


def paired(root: Path, name: str = "Dataset701_Pairs", **changes: Any) -> Path:
    """Write the paired dataset of the made subjects."""
    options = {
        "sources": case_files(root / "low"),
        "targets": case_files(root / "images"),
        "labels": case_files(root / "labels"),
        "label_names": LABELS,
        "source_field_T": 0.36,
        "target_field_T": 3.0,
        "route": "simulated",
    }
    return write_paired_dataset(root / "raw" / name, **{**options, **changes})


def segmentation(root: Path, name: str = "Dataset702_Tissues", **changes: Any) -> Path:
    """Write the segmentation dataset of the made subjects, one of them a test case."""
    images, labels = case_files(root / "low"), case_files(root / "labels")
    del labels["carl"]
    options = {
        "test_channels": {"LF": {"carl": images.pop("carl")}},
        "channels": {"LF": images},
        "labels": labels,
        "label_names": LABELS,
    }
    return write_segmentation_dataset(root / "raw" / name, **{**options, **changes})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_paired_dataset_is_valid_for_nnunet_and_says_what_is_source_and_target(low_field: Path) -> None:
    dataset = paired(low_field, architecture={"base_features": 8})
    with threaded_pools():
        verify_dataset_integrity(str(dataset), num_processes=1)
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "LF", "1": "HF"}
    assert description["labels"] == LABELS
    assert description["numTraining"] == 3
    assert description["uhf"] == {
        "source": "LF",
        "target": "HF",
        "source_field_T": 0.36,
        "target_field_T": 3.0,
        "route": "simulated",
        "architecture": {"base_features": 8},
    }
    for channel, folder in enumerate(("low", "images")):
        copied = dataset / "imagesTr" / f"béla 2_{channel:04d}.nii.gz"
        assert copied.read_bytes() == (low_field / folder / "béla 2.nii.gz").read_bytes()


def test_a_segmentation_dataset_is_valid_for_nnunet_and_keeps_test_cases_apart(low_field: Path) -> None:
    dataset = segmentation(low_field)
    with threaded_pools():
        verify_dataset_integrity(str(dataset), num_processes=1)
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "LF"}
    assert "uhf" not in description
    assert [path.name for path in (dataset / "imagesTs").iterdir()] == ["carl_0000.nii.gz"]
    assert sorted(path.name for path in (dataset / "labelsTr").iterdir()) == ["anna.nii.gz", "béla 2.nii.gz"]


def test_a_segmentation_dataset_may_have_several_channels_and_test_cases_with_labels(low_field: Path) -> None:
    low, high, labels = (case_files(low_field / name) for name in ("low", "images", "labels"))
    channels = {"LF": low, "HF": high}
    dataset = segmentation(
        low_field,
        channels={name: {case: files[case] for case in ("anna", "béla 2")} for name, files in channels.items()},
        test_channels={name: {"carl": files["carl"]} for name, files in channels.items()},
        test_labels={"carl": labels["carl"]},
        record={"kind": "made"},
    )
    with threaded_pools():
        verify_dataset_integrity(str(dataset), num_processes=1)
    assert json.loads((dataset / "dataset.json").read_text())["channel_names"] == {"0": "LF", "1": "HF"}
    assert json.loads((dataset / "conversion.json").read_text()) == {"kind": "made"}
    for name, source in (("imagesTs/carl_0001.nii.gz", high["carl"]), ("labelsTs/carl.nii.gz", labels["carl"])):
        assert (dataset / name).read_bytes() == source.read_bytes()


def test_sources_are_copied_and_never_touched(low_field: Path) -> None:
    before = files(low_field)
    paired(low_field)
    segmentation(low_field)
    assert {name: content for name, content in files(low_field).items() if not name.startswith("raw")} == before


def unequal_grid(root: Path, save: Any) -> dict[str, Any]:
    path = root / "images" / "carl.nii.gz"
    save(path, np.asarray(nib.load(path).dataobj)[1:])
    return {}


def label_without_name(root: Path, save: Any) -> dict[str, Any]:
    return {"label_names": {"background": 0, "CSF": 1, "GM": 2}}


def fractional_label(root: Path, save: Any) -> dict[str, Any]:
    path = root / "labels" / "carl.nii.gz"
    save(path, nib.load(path).get_fdata() / 2)
    return {}


def damaged_image(root: Path, save: Any) -> dict[str, Any]:
    path = root / "images" / "carl.nii.gz"
    path.write_bytes(path.read_bytes()[:-500])
    return {}


def missing_target(root: Path, save: Any) -> dict[str, Any]:
    (root / "images" / "carl.nii.gz").unlink()
    return {}


def absent_file(root: Path, save: Any) -> dict[str, Any]:
    return {"targets": {**case_files(root / "images"), "carl": root / "absent.nii.gz"}}


def one_file_twice(root: Path, save: Any) -> dict[str, Any]:
    return {"targets": {**case_files(root / "images"), "carl": root / "images" / "anna.nii.gz"}}


def source_is_target(root: Path, save: Any) -> dict[str, Any]:
    return {"sources": case_files(root / "images")}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (unequal_grid, "carl.*has shape"),
        (label_without_name, "holds label 3, which has no name"),
        (fractional_label, "carl.*no whole numbers"),
        (damaged_image, "carl.*(damaged|cannot be read)"),
        (missing_target, "channel HF of Dataset701_Pairs lacks case carl"),
        (absent_file, "absent.nii.gz does not exist"),
        (one_file_twice, "anna.nii.gz is named for case anna"),
        (source_is_target, "each case needs its own file"),
    ],
)
def test_bad_pairs_are_one_line_and_leave_no_dataset(low_field: Path, save: Any, damage: Any, reason: str) -> None:
    changes = damage(low_field, save)
    with pytest.raises(UHFError, match=reason) as error:
        paired(low_field, **changes)
    assert "\n" not in str(error.value)
    assert not (low_field / "raw").exists() or not any((low_field / "raw").iterdir())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "Pairs"}, "no nnU-Net dataset name"),
        ({"name": "Dataset7_Pairs"}, "no nnU-Net dataset name"),
        ({"route": "guessed"}, "route is 'guessed'"),
        ({"source_field_T": 0}, "source_field_T is 0"),
        ({"target_channel": "lf"}, "give two names"),
        ({"label_names": {"CSF": 1, "GM": 2, "WM": 3}}, "lack background"),
        ({"label_names": {"background": 0, "CSF": 1, "GM": 2, "WM": 4}}, "number them"),
        ({"sources": {}, "targets": {}, "labels": {}}, "no cases"),
    ],
)
def test_a_dataset_that_nnunet_could_not_use_is_refused(low_field: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        paired(low_field, **changes)
    assert not (low_field / "raw").exists()


def test_a_dataset_number_or_folder_in_use_is_refused_and_left_as_it_is(low_field: Path) -> None:
    dataset = paired(low_field)
    before = files(dataset)
    with pytest.raises(UHFError, match="not empty"):
        paired(low_field)
    with pytest.raises(UHFError, match="already holds Dataset701_Pairs"):
        segmentation(low_field, "Dataset701_Tissues")
    assert files(dataset) == before


def test_case_names_that_collide_or_leave_the_folder_are_refused(low_field: Path) -> None:
    images, labels = case_files(low_field / "low"), case_files(low_field / "labels")
    with pytest.raises(UHFError, match="is a training and a test case"):
        segmentation(low_field, test_channels={"LF": {"anna": images["carl"]}})
    for name, reason in (("../anna", "cannot be a case name"), ("ANNA", "differ in capitals")):
        with pytest.raises(UHFError, match=reason):
            segmentation(
                low_field,
                channels={"LF": {"anna": images["anna"], name: images["carl"]}},
                labels={"anna": labels["anna"], name: labels["carl"]},
                test_channels=None,
            )


def test_a_training_image_offered_as_test_image_under_another_name_is_refused(low_field: Path) -> None:
    with pytest.raises(UHFError, match="each case needs its own file"):
        segmentation(low_field, test_channels={"LF": {"dora": low_field / "low" / "anna.nii.gz"}})
