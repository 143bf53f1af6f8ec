"""Made FreeSurfer subjects folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from helpers.workspace import threaded_pools
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.labelled.freesurfer import convert_freesurfer
from nnunet_uhf.preprocessing.labelled.scans import ConversionOptions

# FreeSurfer's conformed grid: left, inferior, anterior
AFFINE = np.array([[-1.0, 0, 0, 7.5], [0, 0, 1, -6], [0, -1, 0, 7], [0, 0, 0, 1]])


def subjects_folder(root: Path, names: tuple[str, ...] = ("anna", "Björk 2")) -> Path:
    """Subjects with white matter and choroid plexus on either side and a corpus callosum without a side."""
    for name in names:
        aseg = np.zeros((16, 14, 12), dtype=np.int32)
        aseg[1:5, 2:12, 2:10] = 41  # the first axis runs to the left: low indices are on the right
        aseg[10:15, 2:12, 2:10] = 2
        aseg[7:9, 5:9, 4:8] = 252  # corpus callosum, no side
        aseg[2, 3:5, 3:5], aseg[12, 3:5, 3:5] = 63, 31  # choroid plexus
        aseg[6, 2, 2] = 24
        image = (aseg % 50 + 60).astype(np.uint8)
        mri = root / name / "mri"
        mri.mkdir(parents=True)
        for file, data in (("aseg", aseg), ("brain", image), ("norm", image)):
            nib.save(nib.MGHImage(data, AFFINE), mri / f"{file}.mgz")
    shutil.copytree(root / names[0], root / "fsaverage")
    (root / "README.txt").write_text("not a subject")
    return root


def convert(root: Path, **options: Any) -> Any:
    return convert_freesurfer(root / "subjects", root / "raw" / "Dataset113_Aseg", **options)


def test_subjects_become_a_valid_dataset_in_which_left_is_left(tmp_path: Path) -> None:
    subjects_folder(tmp_path / "subjects")
    done = convert(tmp_path)
    with threaded_pools():
        verify_dataset_integrity(str(done.dataset), num_processes=1)
    assert sorted(path.name for path in (done.dataset / "labelsTr").iterdir()) == ["Björk 2.nii.gz", "anna.nii.gz"]
    names = json.loads((done.dataset / "dataset.json").read_text())["labels"]
    labels = nib.load(done.dataset / "labelsTr" / "anna.nii.gz")
    data = np.asarray(labels.dataobj)
    for index, name in (
        ((12, 8, 8), "Left-Cerebral-White-Matter"),
        ((2, 8, 8), "Right-Cerebral-White-Matter"),
        ((12, 3, 3), "Left-Lateral-Ventricle"),
        ((2, 3, 3), "Right-Lateral-Ventricle"),
        ((8, 6, 5), "Left-Cerebral-White-Matter"),
        ((6, 2, 2), "background"),
    ):
        assert data[index] == names[name], name
        side = np.sign((labels.affine @ [*index, 1])[0])
        assert not name.startswith("Left") or side < 0
        assert not name.startswith("Right") or side > 0
    image = nib.load(done.dataset / "imagesTr" / "anna_0000.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.affine, AFFINE)
    assert any("UHFTrainerNoMirroring" in warning for warning in done.warnings)


def test_another_image_and_merged_sides_can_be_chosen(tmp_path: Path) -> None:
    subjects_folder(tmp_path / "subjects")
    done = convert(tmp_path, image="norm", merge_sides=True)
    assert len(json.loads((done.dataset / "dataset.json").read_text())["labels"]) == 16
    record = json.loads((done.dataset / "conversion.json").read_text())
    assert record["cases"]["anna"]["images"]["T1w"].endswith("norm.mgz")
    assert not any("Mirroring" in warning for warning in done.warnings)


def without_aseg(folder: Path) -> None:
    (folder / "aseg.mgz").unlink()


def other_grid(folder: Path) -> None:
    nib.save(nib.MGHImage(np.arange(16 * 14 * 11, dtype=np.int16).reshape(16, 14, 11), AFFINE), folder / "brain.mgz")


def cut_short(folder: Path) -> None:
    path = folder / "aseg.mgz"
    path.write_bytes(path.read_bytes()[:-40])


def unknown_number(folder: Path) -> None:
    aseg = nib.load(folder / "aseg.mgz")
    data = np.asarray(aseg.dataobj).copy()
    data[0, 0, 0] = 1001  # a cortical region of aparc+aseg
    nib.save(nib.MGHImage(data, aseg.affine), folder / "aseg.mgz")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_aseg, "holds no aseg.mgz"),
        (other_grid, "has shape"),
        (cut_short, "aseg.mgz cannot be read"),
        (unknown_number, "aseg.mgz holds label 1001"),
    ],
)
def test_a_damaged_subject_is_one_line_and_leaves_nothing(tmp_path: Path, damage: Any, reason: str) -> None:
    damage(subjects_folder(tmp_path / "subjects") / "anna" / "mri")
    with pytest.raises(UHFError, match=reason) as told:
        convert(tmp_path)
    assert "anna" in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "raw").exists() or not any((tmp_path / "raw").iterdir())


def test_an_empty_folder_and_an_image_that_nobody_has_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "subjects").mkdir()
    with pytest.raises(UHFError, match="no complete FreeSurfer case"):
        convert(tmp_path)
    subjects_folder(tmp_path / "subjects")
    with pytest.raises(UHFError, match=r"holds no T2\.mgz"):
        convert(tmp_path, image="T2")
    with pytest.raises(UHFError, match="no complete FreeSurfer case"):
        convert(tmp_path, image="T2", options=ConversionOptions(skip_incomplete=True))


def test_templates_and_copies_of_the_longitudinal_stream_are_no_subjects(tmp_path: Path) -> None:
    names = ("anna_1", "anna_2", "anna_1.long.anna", "anna_2.long.anna", "anna")
    subjects_folder(tmp_path / "subjects", names)
    (tmp_path / "subjects" / "anna" / "base-tps").write_text("anna_1\nanna_2\n")
    done = convert(tmp_path)
    written = sorted(path.name for path in (done.dataset / "labelsTr").iterdir())
    assert written == ["anna_1.nii.gz", "anna_2.nii.gz"]
    assert any("passed over anna, anna_1.long.anna, anna_2.long.anna" in warning for warning in done.warnings)


def test_volumes_that_were_not_fetched_are_told_with_the_command_that_does(tmp_path: Path) -> None:
    folder = subjects_folder(tmp_path / "subjects") / "anna" / "mri"
    (folder / "aseg.mgz").unlink()
    (folder / "aseg.mgz").symlink_to(tmp_path / ".git" / "annex" / "objects" / "aseg.mgz")
    with pytest.raises(UHFError, match=r"aseg\.mgz is a link to a file that is not here: fetch it \(datalad get"):
        convert(tmp_path)
