"""One header, two readings: nnU-Net's (ITK's) counts, nibabel's is named where it differs, and outputs keep both."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from nibabel.affines import apply_affine, voxel_sizes

from nnunet_uhf.errors import UHFError, UHFWarning
from nnunet_uhf.imageio.files import check_nifti_header, read_image
from nnunet_uhf.imageio.nifti import copy_compressed, read_grid, read_volume, require_same_grid, write_volume

SHAPE = (10, 12, 8)
SCANNER = np.array([[1.0, 0, 0, -10], [0, 1.5, 0, -12], [0, 0, 2, -16], [0, 0, 0, 1]])
ANGLE = np.radians(15)
MOVED = (
    np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0, 5], [np.sin(ANGLE), np.cos(ANGLE), 0, 3], [0, 0, 1, -2], [0, 0, 0, 1]])
    @ SCANNER
)


def save_forms(path: Path, sform: Any, sform_code: int, qform: Any, qform_code: int, **header: Any) -> Path:
    image = nib.Nifti1Image(np.random.default_rng(0).random(SHAPE).astype(np.float32), None)
    image.set_qform(qform, qform_code)
    image.set_sform(sform, sform_code)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def itk_affine(path: Path) -> np.ndarray:
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1, 1, 1]) @ affine


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("meter", 1e-3), ("micron", 1e3)])
def test_lengths_are_mm_whatever_the_headers_unit(tmp_path: Path, unit: str, factor: float) -> None:
    affine = SCANNER.copy()
    affine[:3] *= factor
    image = nib.Nifti1Image(np.random.default_rng(0).random(SHAPE).astype(np.float32), affine)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "a.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = read_grid(tmp_path / "a.nii.gz")
        copy_compressed(tmp_path / "a.nii.gz", tmp_path / "copy.nii.gz")
        write_volume(tmp_path / "new.nii.gz", image.get_fdata(), header=read_volume(tmp_path / "a.nii.gz").header)
    np.testing.assert_allclose(grid.affine, SCANNER, atol=1e-5)
    copy = nib.load(tmp_path / "copy.nii.gz")
    np.testing.assert_allclose(copy.affine, SCANNER, atol=1e-5)
    assert copy.header.get_xyzt_units() == ("mm", "sec")
    assert nib.load(tmp_path / "new.nii.gz").header.get_xyzt_units() == (unit, "sec")
    np.testing.assert_allclose(itk_affine(tmp_path / "new.nii.gz"), SCANNER, atol=1e-4)


@pytest.mark.parametrize(("sform", "qform"), [(2, 1), (4, 1), (2, 2), (0, 0), (1, 0), (0, 1)])
def test_the_affine_is_nnunets_and_what_is_written_lies_on_the_scan_for_every_program(
    tmp_path: Path, sform: int, qform: int
) -> None:
    path = save_forms(tmp_path / "a.nii.gz", MOVED, sform, SCANNER, qform)
    apart = int(np.abs(itk_affine(path) - nib.load(path).affine).max() > 0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume = read_volume(path)
    np.testing.assert_allclose(volume.affine, itk_affine(path), atol=1e-4)
    np.testing.assert_allclose(volume.grid.other, nib.load(path).affine, atol=1e-4)
    assert [each.category for each in caught] == [UHFWarning] * apart
    for step in (None, np.diag([1, 1, 0.25, 1])):
        shape = SHAPE if step is None else (*SHAPE[:2], SHAPE[2] * 4)
        written = tmp_path / "b.nii.gz"
        write_volume(written, np.ones(shape), header=volume.header, step=step)
        index = (3, 4, 5)
        finer = apply_affine(np.linalg.inv(np.eye(4) if step is None else step), index)
        if sform or qform or step is None:  # without a place nibabel counts from the centre, which moves
            there = apply_affine(nib.load(path).affine, index)
            np.testing.assert_allclose(apply_affine(nib.load(written).affine, finer), there, atol=1e-3)
        np.testing.assert_allclose(
            apply_affine(itk_affine(written), finer), apply_affine(itk_affine(path), index), atol=1e-3
        )
        header = nib.load(written).header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (sform, qform)


def test_a_header_with_two_places_is_told_once_with_both(tmp_path: Path) -> None:
    path = save_forms(tmp_path / "a.nii.gz", MOVED, 2, SCANNER, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            read_volume(path)
            check_nifti_header(path, dim=3)
    (told,) = [str(each.message) for each in caught]
    assert str(path) in told
    assert "(-10, -12, -16)" in told
    assert "two places" in told
    assert "\n" not in told


def test_a_header_without_a_place_is_told_with_the_sides_that_programs_disagree_on(tmp_path: Path) -> None:
    path = save_forms(tmp_path / "a.nii.gz", MOVED, 0, SCANNER, 0)
    with pytest.warns(UHFWarning, match="names no place.*LPS.*LAS"):
        read_grid(path)


def test_voxel_sizes_that_contradict_are_nnunets_in_every_command_and_told_with_both(tmp_path: Path) -> None:
    path = save_forms(tmp_path / "a.nii.gz", np.eye(4), 1, np.diag([0.9, 0.9, 1.2, 1]), 0)
    with pytest.warns(UHFWarning, match=r"0\.9 x 0\.9 x 1\.2 mm.*1 x 1 x 1 mm"):
        grid = read_grid(path)
    np.testing.assert_allclose(voxel_sizes(grid.affine), (0.9, 0.9, 1.2), rtol=1e-6)
    np.testing.assert_allclose(read_image(path)[1]["spacing"], (1.2, 0.9, 0.9), rtol=1e-6)


def test_a_matrix_that_itk_refuses_is_read_as_nibabel_does_in_mm(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.4
    small = np.diag([1e-3, 1e-3, 1e-3, 1])
    path = save_forms(tmp_path / "a.nii.gz", sheared @ small, 1, small, 0, xyzt_units=1)
    np.testing.assert_allclose(read_grid(path).affine, sheared, atol=1e-6)
    assert read_image(path)[1]["spacing"][0] == pytest.approx(1.0)


def test_files_that_agree_in_one_reading_lie_on_each_other_and_the_other_is_told(tmp_path: Path) -> None:
    scan = save_forms(tmp_path / "scan.nii.gz", MOVED, 2, SCANNER, 1)
    by_sform = save_forms(tmp_path / "by_sform.nii.gz", MOVED, 2, MOVED, 0)
    by_qform = save_forms(tmp_path / "by_qform.nii.gz", SCANNER, 1, SCANNER, 1)
    elsewhere = save_forms(tmp_path / "elsewhere.nii.gz", np.diag([1, 1.5, 2, 1]), 1, np.diag([1, 1.5, 2, 1]), 0)
    with pytest.warns(UHFWarning, match=r"by_sform.*as nnU-Net \(ITK\) reads the headers"):
        require_same_grid(scan, by_sform)
    with pytest.warns(UHFWarning, match=r"by_qform.*as nibabel \(FSL, nilearn\) reads the headers"):
        require_same_grid(scan, by_qform)
    with pytest.warns(UHFWarning), pytest.raises(UHFError, match="mm off"):
        require_same_grid(scan, elsewhere)


def test_a_copy_gets_the_geometry_of_the_file_it_belongs_to(tmp_path: Path) -> None:
    scan = save_forms(tmp_path / "scan.nii.gz", MOVED, 2, SCANNER, 1)
    labels = save_forms(tmp_path / "labels.nii.gz", MOVED, 2, MOVED, 0)
    copy_compressed(labels, tmp_path / "copy.nii.gz", pattern=scan)
    np.testing.assert_array_equal(itk_affine(tmp_path / "copy.nii.gz"), itk_affine(scan))
    np.testing.assert_array_equal(nib.load(tmp_path / "copy.nii.gz").affine, nib.load(scan).affine)
    np.testing.assert_array_equal(nib.load(tmp_path / "copy.nii.gz").get_fdata(), nib.load(labels).get_fdata())


def test_a_voxel_size_rounded_to_four_digits_is_the_same_grid(tmp_path: Path) -> None:
    paths = []
    for name, size in (("a", 0.8333), ("b", 0.83333333)):
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(np.ones((60, 60, 20), np.float32), np.diag([size, size, 2, 1])), paths[-1])
    require_same_grid(*paths)
    copy_compressed(paths[1], tmp_path / "copy.nii.gz", pattern=paths[0])
    assert nib.load(tmp_path / "copy.nii.gz").header.get_zooms() == nib.load(paths[0]).header.get_zooms()


def test_a_trailing_axis_of_one_counts_for_nothing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((*SHAPE, 1)).astype(np.float32)
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(values, SCANNER), path)
    assert read_grid(path).shape == SHAPE
    np.testing.assert_array_equal(read_volume(path).data, values[..., 0])
    check_nifti_header(path, dim=3)
    assert read_image(path)[0].shape == (1, *SHAPE[::-1])
    copy_compressed(path, tmp_path / "copy.nii.gz")
    assert nib.load(tmp_path / "copy.nii.gz").shape == SHAPE


def test_nifti_2_is_read_and_written_as_nifti_1(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    nib.save(nib.Nifti2Image(values, SCANNER), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    write_volume(tmp_path / "b.nii.gz", volume.data, header=volume.header)
    copy_compressed(tmp_path / "a.nii.gz", tmp_path / "c.nii.gz")
    for name in ("b", "c"):
        np.testing.assert_allclose(itk_affine(tmp_path / f"{name}.nii.gz"), SCANNER, atol=1e-5)


@pytest.mark.parametrize("read", [read_volume, read_image])
def test_a_compressed_file_whose_checksum_is_wrong_or_whose_end_is_cut_is_refused(tmp_path: Path, read: Any) -> None:
    whole = save_forms(tmp_path / "whole.nii.gz", SCANNER, 1, SCANNER, 1)
    content = bytearray(whole.read_bytes())
    for name, damaged in (("cut", content[:-6]), ("flipped", bytes([*content[:-8], content[-8] ^ 1, *content[-7:]]))):
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(damaged)
        with pytest.raises(UHFError, match="cannot be read") as error:
            read(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [read_volume, read_image, lambda path: check_nifti_header(path, dim=3)])
def test_a_file_that_was_not_fetched_is_told_with_the_command_that_does(tmp_path: Path, read: Any) -> None:
    link, pointer, lfs = (tmp_path / f"{name}.nii.gz" for name in ("link", "pointer", "lfs"))
    link.symlink_to(tmp_path / ".git" / "annex" / "objects" / "x.nii.gz")
    pointer.write_text("/annex/objects/MD5E-s100--0123.nii.gz\n")
    lfs.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n")
    for path, command in ((link, "datalad get"), (pointer, "datalad get"), (lfs, "git lfs pull")):
        with pytest.raises(UHFError, match=command):
            read(path)


def test_a_qform_that_is_none_and_has_no_code_does_not_stand_in_the_way(tmp_path: Path) -> None:
    path = save_forms(tmp_path / "a.nii.gz", SCANNER, 1, SCANNER, 0, quatern_b=5.0, quatern_c=3.0)
    write_volume(
        tmp_path / "b.nii.gz", np.ones((*SHAPE[:2], 16)), header=read_volume(path).header, step=np.diag([1, 1, 0.5, 1])
    )
    np.testing.assert_allclose(nib.load(tmp_path / "b.nii.gz").affine, SCANNER @ np.diag([1, 1, 0.5, 1]))
    np.testing.assert_allclose(itk_affine(tmp_path / "b.nii.gz"), SCANNER @ np.diag([1, 1, 0.5, 1]))
