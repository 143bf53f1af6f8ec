from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from helpers.pair_samples import (
    AFFINE,
    LOW_AFFINE,
    canonical,
    high_field,
    low_field,
    movement,
    resampled,
    subject,
    write_turned,
)
from helpers.tiny_data import write_image
from helpers.workspace import threaded_pools
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError, UHFWarning
from nnunet_uhf.imageio.nifti import Volume
from nnunet_uhf.preprocessing.pairing.case_table import PairFiles, cases_of_folders
from nnunet_uhf.preprocessing.pairing.options import PairingOptions
from nnunet_uhf.preprocessing.pairing.paired import convert_paired
from nnunet_uhf.preprocessing.pairing.slicewise import resample_slices

TRUTH = movement((0.1, -0.1, 0.15), (9.0, -6.0, 5.0))
NAMES = ("anna", "béla 2")


def write_scans(root: Path, *, hf_axes: tuple[str, str], lf_axes: tuple[str, str]) -> None:
    """Two subjects, stored along the given axes."""
    for seed, name in enumerate(NAMES):
        labels = subject(seed)
        write_turned(root / "hf" / f"{name}.nii.gz", high_field(labels, seed=seed), AFFINE, hf_axes[seed])
        write_turned(root / "labels" / f"{name}.nii.gz", labels, AFFINE, hf_axes[seed])
        write_turned(root / "lf" / f"{name}.nii.gz", low_field(labels, TRUTH, seed=seed), LOW_AFFINE, lf_axes[seed])


def convert(root: Path, cases: Any = None, **changes: Any) -> Path:
    """Convert all scans of a folder."""
    output = root / "raw" / "Dataset731_Pairs"
    given = {"source_field_T": 0.36, "target_field_T": 3.0, **changes}
    convert_paired(output, cases or cases_of_folders(root / "lf", root / "hf"), **given)
    return output


def same_grid(root: Path) -> None:
    """One small subject whose scans share a grid."""
    labels = subject()
    write_image(root / "lf" / "anna.nii.gz", high_field(labels, seed=9), AFFINE)
    write_image(root / "hf" / "anna.nii.gz", high_field(labels), AFFINE)


def test_scans_stored_along_any_axes_end_registered_with_the_right_geometry(tmp_path: Path) -> None:
    write_scans(tmp_path, hf_axes=("PSR", "LAS"), lf_axes=("IRP", "ASL"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.nii.gz")}
    cases = cases_of_folders(tmp_path / "lf", tmp_path / "hf", labels=tmp_path / "labels")
    dataset = convert(tmp_path, cases, label_names={"background": 0, "CSF": 1, "GM": 2, "WM": 3})
    with threaded_pools():
        verify_dataset_integrity(str(dataset), num_processes=1)
    assert {path: path.read_bytes() for path in before} == before
    for seed, name in enumerate(NAMES):
        labels = subject(seed)
        # back along the standard axes, target and labels are the very voxels they were
        np.testing.assert_array_equal(
            canonical(dataset / "imagesTr" / f"{name}_0001.nii.gz"), high_field(labels, seed=seed)
        )
        np.testing.assert_array_equal(canonical(dataset / "labelsTr" / f"{name}.nii.gz"), labels)
        low = low_field(labels, TRUTH, seed=seed)
        expected = resampled(low, LOW_AFFINE, labels.shape, AFFINE, TRUTH)
        found = canonical(dataset / "imagesTr" / f"{name}_0000.nii.gz")
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
    uhf = json.loads((dataset / "dataset.json").read_text())["uhf"]
    assert uhf == {"source": "LF", "target": "HF", "source_field_T": 0.36, "target_field_T": 3.0, "route": "paired"}
    record = json.loads((dataset / "conversion.json").read_text())
    motion = record["cases"]["anna"]["motions"][0]
    assert abs(motion["rotation_deg"] - 11.8) < 1.5
    with (dataset / "alignment.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(NAMES)
    assert all(row["flagged"] == "no" and float(row["outline_mm"]) < 4 for row in rows.values())


def test_the_high_field_scan_can_be_brought_to_the_low_field_grid(tmp_path: Path) -> None:
    labels = subject()
    write_image(tmp_path / "lf" / "anna.nii.gz", low_field(labels, TRUTH), LOW_AFFINE)
    write_image(tmp_path / "hf" / "anna.nii.gz", high_field(labels), AFFINE)
    write_image(tmp_path / "masks" / "anna.nii.gz", (labels > 0).astype(np.uint8), AFFINE)
    cases = cases_of_folders(tmp_path / "lf", tmp_path / "hf", masks=tmp_path / "masks")
    dataset = convert(tmp_path, cases, options=PairingOptions(grid="lf", n4=("hf",)))
    low = nib.load(dataset / "imagesTr" / "anna_0000.nii.gz")
    np.testing.assert_array_equal(low.get_fdata(), low_field(labels, TRUTH))
    mask = nib.load(dataset / "labelsTr" / "anna.nii.gz")
    np.testing.assert_allclose(mask.affine, LOW_AFFINE)
    inside = low.get_fdata() > 0
    assert ((mask.get_fdata() > 0) == inside).mean() > 0.97  # the mask came along with the high-field scan


def test_without_registration_scans_are_copied_byte_for_byte_and_the_brain_is_what_is_not_zero(tmp_path: Path) -> None:
    same_grid(tmp_path)
    dataset = convert(tmp_path, options=PairingOptions(registration="none"))
    for channel, folder in enumerate(("lf", "hf")):
        copied = (dataset / "imagesTr" / f"anna_{channel:04d}.nii.gz").read_bytes()
        assert copied == (tmp_path / folder / "anna.nii.gz").read_bytes()
    mask = nib.load(dataset / "labelsTr" / "anna.nii.gz").get_fdata() > 0
    np.testing.assert_array_equal(mask, subject() > 0)
    assert json.loads((dataset / "dataset.json").read_text())["labels"] == {"background": 0, "brain": 1}


def test_labels_of_registered_scans_with_one_stored_grid_need_to_know_their_scan(tmp_path: Path) -> None:
    labels = subject()
    moved = np.roll(labels, 3, axis=0)  # 12 mm in the patient, nothing in the header
    write_image(tmp_path / "hf" / "anna.nii.gz", high_field(labels), AFFINE)
    write_image(tmp_path / "lf" / "anna.nii.gz", high_field(moved, seed=5), AFFINE)
    write_image(tmp_path / "labels" / "anna.nii.gz", moved.astype(np.uint8), AFFINE)
    cases = cases_of_folders(tmp_path / "lf", tmp_path / "hf", labels=tmp_path / "labels")
    names = {"background": 0, "CSF": 1, "GM": 2, "WM": 3}
    with pytest.raises(UHFError, match=r"has the grid of both scans.*--labels-on"):
        convert(tmp_path, cases, label_names=names)
    assert not (tmp_path / "raw" / "Dataset731_Pairs").exists()
    dataset = convert(tmp_path, cases, label_names=names, options=PairingOptions(labels_on="lf"))
    found = nib.load(dataset / "labelsTr" / "anna.nii.gz").get_fdata()
    assert 2 * ((found > 0) & (labels > 0)).sum() / ((found > 0).sum() + (labels > 0).sum()) > 0.95
    write_image(tmp_path / "lf" / "anna.nii.gz", high_field(moved, seed=5)[:-1], AFFINE)
    with pytest.raises(UHFError, match=r"does not lie on the grid of .*lf"):
        convert(tmp_path / "x", cases, label_names=names, options=PairingOptions(labels_on="lf"))


def test_fine_slices_are_smoothed_before_they_are_sampled_coarsely() -> None:
    board = np.indices((40, 40, 4)).sum(axis=0) % 2
    fine = Volume(board.astype(np.float32), np.diag([0.5, 0.5, 5, 1]), None, Path("fine"))
    coarse = Volume(np.zeros((18, 18, 4), np.float32), np.diag([1.1, 1.1, 5, 1]), None, Path("coarse"))
    still = [sitk.AffineTransform(2)] * 4
    moved = resample_slices(fine, fine.data, grid=coarse, axis=2, transforms=still)
    assert moved[2:-2, 2:-2].std() < 0.05  # of the board: 0.5
    kept = resample_slices(fine, fine.data, grid=fine, axis=2, transforms=still)
    np.testing.assert_allclose(kept, fine.data, atol=1e-4)


def test_matching_slices_with_placeholder_voxel_sizes_are_registered_in_their_planes(tmp_path: Path) -> None:
    labels = subject()[:, :, 12:24:3]
    image = high_field(labels)
    moved = np.roll(low := high_field(labels, seed=5), (3, -2), axis=(0, 1))
    write_image(tmp_path / "hf" / "anna.nii.gz", image, np.eye(4))
    write_turned(tmp_path / "lf" / "anna.nii.gz", moved, np.eye(4), "PRI")
    options = PairingOptions(slicewise=True, spacing_hf=(4.0, 4.0, 12.0), spacing_lf=(4.0, 4.0, 12.0))
    dataset = convert(tmp_path, options=options)
    found = nib.load(dataset / "imagesTr" / "anna_0000.nii.gz")
    np.testing.assert_allclose(found.header.get_zooms(), (4, 4, 12))
    assert np.corrcoef(found.get_fdata().ravel(), low.ravel())[0, 1] > 0.97
    for motion in json.loads((dataset / "conversion.json").read_text())["cases"]["anna"]["motions"]:
        np.testing.assert_allclose(np.abs(motion["translation_mm"]), (12, 8), atol=1.5)


def test_a_header_that_names_two_places_is_told_and_keeps_both_in_all_files_of_its_case(tmp_path: Path) -> None:
    same_grid(tmp_path)
    moved = AFFINE.copy()
    moved[:3, 3] += (9, 5, 3)
    for path in (tmp_path / "hf" / "anna.nii.gz", tmp_path / "lf" / "anna.nii.gz"):
        image = nib.load(path)
        image.set_qform(AFFINE, code=1)
        image.set_sform(moved, code=2)
        nib.save(image, path)
    with pytest.warns(UHFWarning, match="hf/anna.*two places"):
        dataset = convert(tmp_path, options=PairingOptions(registration="none"))
    with threaded_pools():
        verify_dataset_integrity(str(dataset), num_processes=1)
    for name in ("imagesTr/anna_0000", "imagesTr/anna_0001", "labelsTr/anna"):
        header = nib.load(dataset / f"{name}.nii.gz").header
        np.testing.assert_allclose(header.get_qform(), AFFINE, atol=1e-4)
        np.testing.assert_allclose(header.get_sform(), moved, atol=1e-4)


def test_scans_on_one_template_share_its_mask_but_no_scan(tmp_path: Path) -> None:
    labels = subject()
    for seed, name in enumerate(("a", "b")):
        write_image(tmp_path / f"{name}_lf.nii.gz", high_field(labels, seed=seed), AFFINE)
        write_image(tmp_path / f"{name}_hf.nii.gz", high_field(labels, seed=seed + 5), AFFINE)
    write_image(tmp_path / "mask.nii.gz", (labels > 0).astype(np.uint8), AFFINE)
    mask = tmp_path / "mask.nii.gz"
    cases = {
        name: PairFiles(tmp_path / f"{name}_lf.nii.gz", tmp_path / f"{name}_hf.nii.gz", mask=mask) for name in "ab"
    }
    dataset = convert(tmp_path, cases=cases, options=PairingOptions(registration="none"))
    assert len(list((dataset / "labelsTr").iterdir())) == 2
    twice = {**cases, "c": PairFiles(tmp_path / "a_lf.nii.gz", tmp_path / "b_hf.nii.gz", mask=mask)}
    with pytest.raises(UHFError, match=r"is named for case a .* and for case c"):
        convert(tmp_path / "again", cases=twice, options=PairingOptions(registration="none"))


def four_dimensional(path: Path) -> None:
    write_image(path, np.ones((8, 8, 8, 2), np.float32), AFFINE)


def not_a_number(path: Path) -> None:
    data = high_field(subject())
    data[3, 3, 3] = np.nan
    write_image(path, data, AFFINE)


def singular(path: Path) -> None:
    image = nib.load(path)
    image.header.set_sform(np.diag([0, 4, 4, 1.0]), code=1)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path.with_name("x.nii.gz"))
    path.with_name("x.nii.gz").replace(path)


def sheared(path: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 1] = 1.0
    write_image(path, high_field(subject()), affine)


def constant(path: Path) -> None:
    write_image(path, np.ones((40, 44, 36), np.float32), AFFINE)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def other_shape(path: Path) -> None:
    write_image(path, high_field(subject())[1:], AFFINE)


def with_skull(path: Path) -> None:
    write_image(path, high_field(subject()) + 3, AFFINE)


def same_file(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent.parent / "lf" / "anna.nii.gz")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (four_dimensional, "split it into 3D"),
        (not_a_number, "NaN"),
        (singular, "singular affine"),
        (sheared, "sheared affine"),
        (constant, "same intensity everywhere"),
        (cut_off, "damaged|cannot be read"),
        (other_shape, "has shape"),
        (with_skull, "no mask: give brain masks"),
        (same_file, "needs its own file"),
    ],
)
def test_a_damaged_scan_is_one_line_and_leaves_nothing(tmp_path: Path, damage: Any, reason: str) -> None:
    same_grid(tmp_path)
    damage(tmp_path / "hf" / "anna.nii.gz")
    with pytest.raises(UHFError, match=reason) as error:
        convert(tmp_path, options=PairingOptions(registration="none"))
    assert "anna.nii.gz" in str(error.value)
    assert "\n" not in str(error.value)
    assert not any((tmp_path / "raw").glob("*"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source_field_T": 0.0}, "source_field_T is 0"),
        ({"target_channel": "lf"}, "give two names"),
        ({"label_names": {"background": 0, "GM": 1}}, "belong together"),
        ({"options": PairingOptions(registration="none", slicewise=True)}, "--slicewise"),
        ({"options": PairingOptions(seed=-1)}, "seed is -1"),
        ({"options": PairingOptions(registration="none", spacing_lf=(1.0, 0.0, 1.0))}, "three lengths in mm above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_any_work(tmp_path: Path, changes: Any, reason: str) -> None:
    same_grid(tmp_path)
    with pytest.raises(UHFError, match=reason):
        convert(tmp_path, **changes)
    assert not any((tmp_path / "raw").glob("*"))


def test_the_command_tells_what_it_wrote_and_leaves_with_2_on_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same_grid(tmp_path)
    words = ["convert", "paired", "--lf", tmp_path / "lf", "--hf", tmp_path / "hf", "--registration", "none"]
    words += ["-o", tmp_path / "raw" / "Dataset731_Pairs", "--field-lf", 0.36, "--field-hf", 3]
    words += ["--spacing-lf", 2, 2, 3, "--spacing-hf", 2, 2, 3]
    for status, said in ((0, "wrote 1 pairs"), (2, "not empty")):
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        assert left.value.code == status
        captured = capsys.readouterr()
        assert said in (captured.out if status == 0 else captured.err)
    zooms = nib.load(tmp_path / "raw" / "Dataset731_Pairs" / "imagesTr" / "anna_0000.nii.gz").header.get_zooms()
    np.testing.assert_allclose(zooms, (2, 2, 3))


def test_the_command_takes_the_papers_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = subject()
    for number, seed in (("01", 9), ("02", 8)):
        write_image(tmp_path / "in" / f"S_{number}" / "3t_norm.nii", high_field(labels, seed=seed), AFFINE)
        write_image(tmp_path / "in" / f"S_{number}" / "7t_norm.nii", high_field(labels), AFFINE)
    out = tmp_path / "Dataset731_Pairs"
    words = ["convert", "paired", "--subjects", str(tmp_path / "in"), "-o", str(out), "--registration", "none"]
    with pytest.raises(SystemExit) as left:
        main([*words, "--field-lf", "3", "--field-hf", "7"])
    assert left.value.code == 0
    assert sorted(path.name for path in (out / "imagesTr").iterdir()) == [
        f"S_{number}_000{channel}.nii.gz" for number in ("01", "02") for channel in (0, 1)
    ]
    stored = nib.load(out / "imagesTr" / "S_02_0000.nii.gz").get_fdata()
    np.testing.assert_allclose(stored, high_field(labels, seed=8), rtol=1e-6)
    with pytest.raises(SystemExit) as left:
        main([*words, "--field-lf", "3", "--field-hf", "7", "--lf", str(tmp_path / "in")])
    assert left.value.code == 2
    assert "names all files: leave out --lf" in " ".join(capsys.readouterr().err.split())
