from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.nifti import copy_compressed, read_volume, require_same_grid, write_labels, write_volume
from nnunet_uhf.imageio.output import appearing_together

SHAPE = (5, 6, 7)


def test_cases_are_found_by_name_with_spaces_and_accents_and_other_files_are_left_alone(
    tmp_path: Path, save: Any
) -> None:
    for name in ("b 2.nii", "ä.nii.gz", "notes.txt", ".hidden.nii.gz"):
        (tmp_path / name).touch()
    assert {case: path.name for case, path in case_files(tmp_path).items()} == {"b 2": "b 2.nii", "ä": "ä.nii.gz"}


def test_a_missing_or_empty_folder_and_a_case_in_two_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UHFError, match="is not a folder"):
        case_files(tmp_path / "absent")
    with pytest.raises(UHFError, match="holds no"):
        case_files(tmp_path)
    for name in ("a.nii", "a.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(UHFError, match="holds case a twice"):
        case_files(tmp_path)


def test_what_is_written_is_read_back_with_both_transforms_of_the_header(tmp_path: Path, save: Any) -> None:
    pattern = read_volume(save(tmp_path / "pattern.nii.gz", np.ones(SHAPE, np.int16)))
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    step = np.diag([1, 1, 4, 1.0])
    write_volume(tmp_path / "new.nii.gz", data, header=pattern.header, step=step)
    image = nib.load(tmp_path / "new.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "new.nii.gz").data, data)
    np.testing.assert_allclose(image.get_sform(), pattern.header.get_sform() @ step)
    np.testing.assert_allclose(image.get_qform(), pattern.header.get_qform() @ step, atol=1e-5)
    assert image.get_data_dtype() == np.float32


@pytest.mark.parametrize(("highest", "dtype"), [(255, np.uint8), (256, np.int16)])
def test_a_label_map_is_written_in_whole_numbers_whatever_the_header_was_made_for(
    tmp_path: Path, save: Any, highest: int, dtype: type
) -> None:
    header = nib.load(save(tmp_path / "scan.nii.gz", np.ones((2, 3, 4), np.float32))).header
    header.set_slope_inter(2, 1)
    labels = np.full((2, 3, 4), highest)
    write_labels(tmp_path / "labels.nii.gz", labels, header=header)
    written = nib.load(tmp_path / "labels.nii.gz")
    assert written.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)
    np.testing.assert_array_equal(written.get_qform(), written.get_sform())


def test_damaged_flat_singular_and_non_finite_files_are_refused_in_one_line(tmp_path: Path, save: Any) -> None:
    ones = np.ones(SHAPE, np.float32)
    singular = save(tmp_path / "singular.nii.gz", ones)
    header = nib.load(singular).header.copy()
    header.set_sform(np.diag([0, 1, 1, 1.0]), code=1)
    nib.save(nib.Nifti1Image(ones, None, header), singular)
    whole = save(tmp_path / "whole.nii.gz", np.random.default_rng(0).normal(size=SHAPE))
    (tmp_path / "cut.nii.gz").write_bytes(whole.read_bytes()[:-400])
    (tmp_path / "text.nii.gz").write_text("no image")
    colours, phases = tmp_path / "colours.nii.gz", tmp_path / "phases.nii.gz"
    rgb = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    for path, array in ((colours, rgb), (phases, ones * 1j)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    holes = ones.copy()
    holes[0, 0, 0] = np.nan
    cases = {
        tmp_path / "absent.nii.gz": "does not exist",
        singular: "singular affine",
        save(tmp_path / "four.nii.gz", np.ones((*SHAPE, 2), np.float32)): "split it into 3D",
        save(tmp_path / "holes.nii.gz", holes): "NaN or infinite",
        tmp_path / "cut.nii.gz": "cannot be read|damaged",
        colours: "colours or complex",
        phases: "colours or complex",
        tmp_path / "text.nii.gz": "cannot be read",
    }
    for path, reason in cases.items():
        with pytest.raises(UHFError, match=reason) as error:
            read_volume(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_grids_are_equal_up_to_rounding_and_differ_in_shape_spacing_or_place(tmp_path: Path, save: Any) -> None:
    first = save(tmp_path / "first.nii.gz", np.ones(SHAPE, np.float32), affine=np.diag([2.0, 2, 2, 1]))

    def other(affine: np.ndarray, shape: tuple[int, ...] = SHAPE) -> Path:
        return save(tmp_path / "other.nii.gz", np.ones(shape, np.float32), affine=affine)

    moved = np.diag([2.0, 2, 2, 1])
    moved[0, 3] = 0.001
    require_same_grid(first, other(moved))
    moved[0, 3] = 1.0
    with pytest.raises(UHFError, match="lies 1 mm off"):
        require_same_grid(first, other(moved))
    with pytest.raises(UHFError, match="differ in voxel size"):
        require_same_grid(first, other(np.diag([2.0, 2, 2.05, 1])))
    with pytest.raises(UHFError, match="has shape"):
        require_same_grid(first, other(np.diag([2.0, 2, 2, 1]), (5, 6, 8)))
    with pytest.raises(UHFError, match="mm off"):  # same place of voxel 0, other direction
        require_same_grid(first, other(np.diag([-2.0, 2, 2, 1])))


def test_copies_keep_every_byte_and_plain_files_are_compressed(tmp_path: Path, save: Any) -> None:
    for name in ("a.nii", "a.nii.gz"):
        source = save(tmp_path / name, np.random.default_rng(0).normal(size=SHAPE))
        copy_compressed(source, tmp_path / "copy.nii.gz")
        content = source.read_bytes() if name.endswith(".nii") else gzip.decompress(source.read_bytes())
        assert gzip.decompress((tmp_path / "copy.nii.gz").read_bytes()) == content


def test_a_copy_of_a_file_without_a_place_has_none_either(tmp_path: Path) -> None:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nib.Nifti1Image(voxels, None)
    image.header.set_zooms((1.0, 2.0, 3.0))
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, tmp_path / "a.nii.gz")
    copy_compressed(tmp_path / "a.nii.gz", tmp_path / "copy.nii.gz")
    assert (tmp_path / "copy.nii.gz").read_bytes() == (tmp_path / "a.nii.gz").read_bytes()


def test_folders_appear_complete_or_not_at_all(tmp_path: Path) -> None:
    first, second = tmp_path / "new" / "first", tmp_path / "second"
    second.mkdir()

    def fail() -> None:
        with appearing_together(first, second) as (a, _):
            (a / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "second"]
    with appearing_together(first, second) as (a, b):
        (a / "one").touch()
        (b / "two").touch()
    assert (first / "one").is_file()
    assert (second / "two").is_file()
    with pytest.raises(UHFError, match="not empty"), appearing_together(first):
        pass
    for one, other in ((tmp_path / "x", tmp_path / "x"), (tmp_path / "x", tmp_path / "x" / "y" / "z")):
        with pytest.raises(UHFError, match="side by side"), appearing_together(other, one):
            pass
        assert not (tmp_path / "x").exists()
