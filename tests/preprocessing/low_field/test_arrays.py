"""`simulate_low_field` is the simulator, in one call."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field import (
    LowFieldSimulator,
    find_preset,
    profile_for_ratio,
    tissues_from_labels,
)
from nnunet_uhf.preprocessing.low_field.arrays import simulate_low_field

LABELS = {"csf": 1, "gm": 2, "wm": 3}


def labelled(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """White matter in grey matter in a border of CSF, and an image of them."""
    labels = np.zeros((24,) * dim, dtype=int)
    for value, margin in ((1, 2), (2, 4), (3, 8)):
        labels[(slice(margin, -margin),) * dim] = value
    noise = np.random.default_rng(0).normal(0, 2, labels.shape)
    return np.where(labels > 0, np.choose(labels, [0, 30, 60, 90]) + noise, 0), labels


@pytest.mark.parametrize("dim", [2, 3])
def test_it_is_what_the_simulator_makes_of_the_same_seed(dim: int) -> None:
    image, labels = labelled(dim)
    simulator = LowFieldSimulator(snr=find_preset("flair_0.36T").snr, profiles=(profile_for_ratio(2),), axes=(dim - 1,))
    expected = simulator.apply(image, tissues_from_labels(labels, LABELS), simulator.draw(np.random.default_rng(5)))
    found = simulate_low_field(image, labels, preset="flair_0.36T", ratio=2, seed=5)
    np.testing.assert_array_equal(found, expected.image)


def test_tissue_maps_do_as_well_as_their_label_map() -> None:
    image, labels = labelled(3)
    maps = tissues_from_labels(labels, LABELS)
    np.testing.assert_array_equal(simulate_low_field(image, maps), simulate_low_field(image, labels))


def test_without_tissues_they_are_told_by_brightness() -> None:
    image, labels = labelled(3)
    by_brightness = simulate_low_field(image, ratio=2, seed=3)
    by_label = simulate_low_field(image, labels, ratio=2, seed=3)
    assert np.corrcoef(by_brightness.ravel(), by_label.ravel())[0, 1] > 0.98


def test_thick_slices_lie_along_the_axis_that_is_named() -> None:
    image, labels = labelled(3)
    assert simulate_low_field(image, labels, ratio=4, axis=0, grid="native").shape == (6, 24, 24)
    assert simulate_low_field(image, labels, ratio=4, axis=-2, grid="native").shape == (24, 6, 24)
    with pytest.raises(UHFError, match="slice axis is 3"):
        simulate_low_field(image, labels, axis=3)
