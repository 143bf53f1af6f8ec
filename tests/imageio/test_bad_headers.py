"""Headers that cannot be true, and names that are odd: one line, or the right image."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from helpers.bad_images import EDITS, write_bad_image
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files, check_nifti_header, read_image
from nnunet_uhf.imageio.nifti import read_grid, read_volume
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.preprocessing.labelled.source_image import read_source


def check_and_read(path: Path) -> Any:
    check_nifti_header(path, dim=3)
    return read_image(path)


@pytest.mark.parametrize("read", [read_volume, check_and_read, read_source])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("wrong", EDITS)
def test_a_file_that_cannot_be_true_is_one_line(
    wrong: str, ending: str, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = write_bad_image(tmp_path / f"case{ending}", wrong)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UHFError, match=r"case\.nii") as caught:
            read(path)
    assert "\n" not in str(caught.value)


def test_a_header_of_30000_voxels_a_side_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = write_bad_image(tmp_path / "case.nii.gz", "30000 voxels a side")
    with pytest.raises(UHFError, match="too much for"):
        read_grid(path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep names as text")
def test_a_name_that_is_not_utf_8_is_told_before_itk_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.arange(512, dtype=np.float32).reshape(8, 8, 8), np.eye(4)), path)
    (found,) = case_files(tmp_path).values()
    for read in (read_volume, check_and_read, read_source, read_image, read_grid):
        with pytest.raises(UHFError, match="is not UTF-8: rename") as caught:
            read(found)
        str(caught.value).encode("utf-8")
    path.rename(tmp_path / "café.nii.gz")
    assert read_image(tmp_path / "café.nii.gz")[0].max() == 511


def test_what_is_written_has_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with written_whole(tmp_path / "shared.json") as temporary:
            temporary.write_text("{}")
    finally:
        os.umask(before)
    assert (tmp_path / "shared.json").stat().st_mode & 0o777 == 0o640
