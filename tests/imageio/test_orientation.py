"""Axes of stored images: their letters, and turning an image there and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

from nnunet_uhf.imageio.orientation import ENDS, Turn, axis_codes, is_axis_codes

ALL = ["".join(codes) for order in itertools.permutations(ENDS) for codes in itertools.product(*order)]


def test_there_are_48_orientations_and_no_other_letters_are_one() -> None:
    assert len(set(ALL)) == 48
    assert all(is_axis_codes(codes) for codes in ALL)
    for wrong in ("LA", "LLS", "LRS", "las", "LASS", "", None, 3, ["L", "A", "S"]):
        assert not is_axis_codes(wrong)


@pytest.mark.parametrize("wanted", ["LAS", "PIR", "SAL"])
@pytest.mark.parametrize("stored", ALL)
def test_turning_is_what_nibabel_does_and_back_is_the_same_image(stored: str, wanted: str) -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)  # x, y, z
    theirs = apply_orientation(image, ornt_transform(axcodes2ornt(stored), axcodes2ornt(wanted)))
    turn = Turn.between(stored, wanted)
    array = image.T[None]  # as nnU-Net's readers give it
    turned = turn.turned(array)
    np.testing.assert_array_equal(turned[0].T, theirs)
    np.testing.assert_array_equal(turn.back(turned), array)
    np.testing.assert_array_equal(turn.back(turned[0]), array[0])
    assert turn.turned_steps([30, 20, 10]) == [10 * (image.shape.index(n) + 1) for n in turned.shape[1:]]
    assert turn.turns_nothing == (stored == wanted)


def test_an_oblique_axis_is_that_which_it_is_nearest_to_and_a_matrix_without_axes_has_none() -> None:
    angle = np.radians(40)
    tilted = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = tilted @ np.diag([-1.0, 1, 3])
    assert axis_codes(affine) == "LAS"
    affine[:3, 2] = 0
    assert axis_codes(affine) is None
    affine[0, 0] = np.nan
    assert axis_codes(affine) is None
