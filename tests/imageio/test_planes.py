from __future__ import annotations

import numpy as np
import pytest

from helpers.made_scans import AFFINE
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.planes import PLANES, box_around, plane_across, slice_axis


@pytest.mark.parametrize(("axis", "expected"), [("sagittal", 2), ("coronal", 0), ("axial", 1), ("0", 0), ("2", 2)])
def test_a_plane_names_the_array_axis_that_runs_through_it(axis: str, expected: int) -> None:
    assert slice_axis(AFFINE, axis) == expected


@pytest.mark.parametrize("axis", ["oblique", "3", "-1", ""])
def test_an_axis_that_is_neither_plane_nor_number_is_refused(axis: str) -> None:
    with pytest.raises(UHFError, match=f"slice axis is '{axis}': use axial, coronal, sagittal, or"):
        slice_axis(AFFINE, axis)


def test_every_plane_is_known_by_its_normal_and_lies_along_the_other_two_axes() -> None:
    for name, plane in PLANES.items():
        assert plane_across(plane.normal) == name
        assert sorted((plane.normal, plane.across, plane.up)) == [0, 1, 2]


def test_the_box_around_a_mask_has_a_margin_in_mm_and_stays_inside_the_volume() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[9:11, 1, 18] = True
    box = box_around(mask, (2.0, 2.0, 4.0), margin_mm=7.0)
    assert box == (slice(5, 15), slice(0, 6), slice(16, 20))
    assert box_around(np.zeros((4, 5, 6), bool), (1.0, 1.0, 1.0)) == (slice(0, 4), slice(0, 5), slice(0, 6))
