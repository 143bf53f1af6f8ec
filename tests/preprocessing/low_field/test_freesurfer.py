from __future__ import annotations

import numpy as np
import pytest

from helpers.support import shared_data
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import read_volume
from nnunet_uhf.preprocessing.low_field import FREESURFER_TISSUES, tissues_from_freesurfer
from nnunet_uhf.preprocessing.low_field.freesurfer import LEFT_TWINS, OUTSIDE_BRAIN, tissue_classes


def test_both_sides_of_the_brain_have_the_same_tissue() -> None:
    sides = [(2, 41), (3, 42), (4, 43), (5, 44), (7, 46), (8, 47), (10, 49), (11, 50), (12, 51), (13, 52)]
    sides += [(17, 53), (18, 54), (25, 57), (26, 58), (28, 60), (30, 62), (31, 63), (1015, 2015), (3015, 4015)]
    for left, right in sides:
        assert LEFT_TWINS[right] == left
    for right, left in LEFT_TWINS.items():
        assert FREESURFER_TISSUES[left] == FREESURFER_TISSUES[right]
    assert not OUTSIDE_BRAIN & set(FREESURFER_TISSUES)


@pytest.mark.parametrize(("label", "tissue"), [(24, "csf"), (1022, "gm"), (1004, "wm"), (16, "wm"), (136, "csf")])
def test_labels_have_the_tissue_of_the_documented_table(label: int, tissue: str) -> None:
    labels = np.array([[[0, 2, 3, label, 511]]])
    maps = tissues_from_freesurfer(labels)._asdict()
    assert {name: maps[name][0, 0, 3] for name in maps} == {name: float(name == tissue) for name in maps}
    assert not any(maps[name][0, 0, (0, 4)].any() for name in maps)


def test_a_label_outside_the_table_is_refused_and_not_guessed() -> None:
    with pytest.raises(UHFError, match=r"label 550 is not in the table .*2 such"):
        tissues_from_freesurfer(np.array([0, 2, 3, 550, 999]))


def test_maps_without_white_matter_are_refused() -> None:
    with pytest.raises(UHFError, match="no voxel has label 3"):
        tissues_from_freesurfer(np.array([0, 3, 24]))


def test_real_label_maps_of_whole_heads_hold_no_unknown_label() -> None:
    for path in sorted((shared_data() / "synthseg_label_maps").glob("*.nii.gz"))[:1]:
        classes = tissue_classes(read_volume(path).data[::4, ::4, ::4])
        assert set(np.unique(classes)) == {0, 1, 2, 3}
