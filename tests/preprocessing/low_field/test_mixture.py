from __future__ import annotations

import numpy as np
import pytest

from helpers.tiny_data import make_channel, make_labels
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.mixture import mixture_means, parse_brightness, tissues_from_mixture

SHAPE = (24, 26, 25)
TISSUES = ("csf", "gm", "wm")


def scan(channel: str = "HF") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = make_labels(SHAPE, rng)
    return make_channel(labels, channel, rng), labels


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize(("channel", "brightness"), [("HF", TISSUES), ("T2w", ("wm", "gm", "csf"))])
def test_tissues_of_a_made_brain_are_found_by_their_brightness(channel: str, brightness: tuple[str, ...]) -> None:
    image, labels = scan(channel)
    maps = tissues_from_mixture(image, brightness=brightness)
    winner = np.argmax(maps, axis=0) + 1
    for value in (1, 2, 3):
        assert dice((winner == value) & (labels > 0), labels == value) > 0.85


def test_probabilities_add_up_to_one_in_the_mask_and_to_zero_outside() -> None:
    image, labels = scan()
    mask = labels > 1
    maps = tissues_from_mixture(image, mask)
    np.testing.assert_allclose(maps.total()[mask], 1, atol=1e-5)
    assert not maps.total()[~mask].any()
    assert maps.gm.dtype == np.float32


def test_a_brighter_voxel_is_never_of_a_darker_tissue() -> None:
    image, _ = scan()
    maps = tissues_from_mixture(image)
    order = np.argsort(image[image > 0])
    assert (np.diff(np.argmax([array[image > 0][order] for array in maps], axis=0)) >= 0).all()
    assert maps.wm.flat[image.argmax()] > 0.99


def test_the_same_seed_gives_the_same_maps_and_brightness_units_do_not_matter() -> None:
    image, _ = scan()
    maps, again, other_units = (tissues_from_mixture(scan) for scan in (image, image, 7 * image))
    np.testing.assert_array_equal(maps.gm, again.gm)
    np.testing.assert_allclose(maps.gm, other_units.gm, atol=1e-4)


def test_means_of_overlapping_tissues_are_nearer_to_the_truth_than_those_of_sure_voxels() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat((40.0, 75.0, 110.0), 4000)
    image = truth + 14 * rng.standard_normal(truth.size)
    maps = tissues_from_mixture(image, np.ones(truth.shape, bool))
    means = mixture_means(image, maps)
    assert means.gm == pytest.approx(75, rel=0.05)
    assert means.wm == pytest.approx(110, rel=0.05)
    assert abs(means.wm - 110) < abs(image[maps.wm > 0.9].mean() - 110)
    with pytest.raises(UHFError, match="not z-scores"):
        mixture_means(image - 90, maps)


@pytest.mark.parametrize(
    ("image", "options", "reason"),
    [
        (np.ones((8, 8, 8)), {}, "no voxel is zero"),
        (np.eye(8), {}, "8 voxels"),
        (np.arange(1000.0), {"mask": np.ones(3, bool)}, "bring them to one grid"),
        (np.r_[np.zeros(9), np.ones(500), 2 * np.ones(500)], {}, "fewer than three intensities"),
        (np.arange(1000.0), {"brightness": ("csf", "gm")}, "name csf, gm and wm"),
    ],
)
def test_what_holds_no_three_tissues_is_refused(image: np.ndarray, options: dict, reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        tissues_from_mixture(image, **options)


def test_the_order_of_brightness_is_read_from_text() -> None:
    assert parse_brightness("WM < gm,csf") == ("wm", "gm", "csf")
    with pytest.raises(UHFError, match="darkest first"):
        parse_brightness("csf,gm")
