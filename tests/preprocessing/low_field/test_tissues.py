from __future__ import annotations

import numpy as np
import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field import parse_tissue_labels, tissues_from_labels, tissues_from_probabilities

LABELS = np.array([[[0, 1, 2, 3], [4, 2, 3, 9]]])


def test_each_tissue_gathers_all_its_labels_and_other_labels_are_outside() -> None:
    maps = tissues_from_labels(LABELS, {"csf": (1, 4), "gm": 2, "wm": [3]})
    np.testing.assert_array_equal(maps.csf, np.isin(LABELS, (1, 4)))
    np.testing.assert_array_equal(maps.gm, LABELS == 2)
    np.testing.assert_array_equal(maps.wm, LABELS == 3)
    np.testing.assert_array_equal(maps.total(), np.isin(LABELS, (1, 2, 3, 4)))
    assert maps.gm.dtype == np.float32


def test_smoothing_softens_borders_and_keeps_the_sum_of_probabilities() -> None:
    labels = np.full((12, 12, 12), 1)
    labels[4:] = 2
    labels[8:] = 3
    maps = tissues_from_labels(labels, {"csf": 1, "gm": 2, "wm": 3}, smoothing=1.0)
    assert 0.1 < maps.gm[3, 6, 6] < 0.5
    np.testing.assert_allclose(maps.total(), 1, atol=1e-6)


def test_a_scan_without_labelled_csf_is_accepted_but_not_one_without_grey_or_white_matter() -> None:
    mapping = {"csf": 1, "gm": 2, "wm": 3}
    assert not tissues_from_labels(np.where(LABELS == 1, 0, LABELS), mapping).csf.any()
    for value, tissue in ((2, "gm"), (3, "wm")):
        without = LABELS.copy()
        without[without == value] = 0
        with pytest.raises(UHFError, match=rf"no voxel has label {value} \({tissue}\)"):
            tissues_from_labels(without, mapping)


@pytest.mark.parametrize(
    ("mapping", "reason"),
    [
        ({"gm": 2, "wm": 3}, "name csf, gm and wm"),
        ({"csf": 1, "gm": 2, "wm": 3, "bone": 4}, "name csf, gm and wm"),
        ({"csf": 1, "gm": (2, 3), "wm": 3}, "one label to two tissues"),
    ],
)
def test_a_mapping_that_is_not_three_separate_tissues_is_refused(mapping: dict, reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        tissues_from_labels(LABELS, mapping)


def test_tissue_labels_are_read_from_text() -> None:
    assert parse_tissue_labels("csf=4+5+24, GM=3,wm=2") == {"csf": (4, 5, 24), "gm": (3,), "wm": (2,)}


@pytest.mark.parametrize("text", ["", "csf", "csf=1,gm=2", "csf=1,gm=x,wm=3", "csf=1=2,gm=2,wm=3", "csf=1,gm=1,wm=3"])
def test_unreadable_tissue_labels_are_refused(text: str) -> None:
    with pytest.raises(UHFError):
        parse_tissue_labels(text)


def test_probability_maps_are_taken_as_they_are_up_to_rounding() -> None:
    gm = np.array([0.2, 1.004, -0.003], dtype=np.float32)
    maps = tissues_from_probabilities(csf=np.zeros(3, np.float32), gm=gm, wm=np.array([0.8, 0, 0], np.float32))
    np.testing.assert_allclose(maps.gm, [0.2, 1.0, 0.0], atol=1e-7)


@pytest.mark.parametrize(
    ("csf", "reason"),
    [([0.0, 0.0], "one grid"), ([255.0, 0, 0], "probabilities, 0 to 1"), ([0.6, 0, 0], "must not exceed 1")],
)
def test_what_are_no_probabilities_is_refused(csf: list[float], reason: str) -> None:
    half = np.full(3, 0.5, dtype=np.float32)
    with pytest.raises(UHFError, match=reason):
        tissues_from_probabilities(csf=np.asarray(csf, np.float32), gm=half, wm=0 * half)
