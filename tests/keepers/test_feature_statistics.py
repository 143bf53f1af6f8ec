"""Statistics of a keeper's features, and the distance of an image from them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.tiny_data import make_channel, make_labels
from nnunet_uhf.keepers.statistics import (
    central_patches,
    channel_means,
    distances_of,
    familiarity,
    overall_distance,
    summarise_features,
)
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper

CHANNELS = (4, 8)


def cases(count: int, *, shift: float = 0.0, seed: int = 0) -> list[list[np.ndarray]]:
    """Means of cases: normal around 2 with a deviation of its own for every channel."""
    rng = np.random.default_rng(seed)
    scales = [np.linspace(0.5, 2, c) for c in CHANNELS]
    return [[2 + scale * (shift + rng.standard_normal(len(scale))) for scale in scales] for _ in range(count)]


def brain(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return make_channel(make_labels(shape, rng), "LF", rng)


def test_patches_lie_in_the_middle_of_the_head_whatever_surrounds_it() -> None:
    image = brain((40, 40, 40))
    wider = np.pad(image, ((0, 30), (25, 5), (10, 40)))
    for size in ((16, 16), (24, 24, 24), (12, 16, 20)):
        alone, within = (central_patches(one, size) for one in (image, wider))
        assert len(alone) == len(within)
        for a, b in zip(alone, within, strict=True):
            moved = [y.start - x.start for x, y in zip(a, b, strict=True)]
            np.testing.assert_allclose(moved, (0, 25, 10), atol=1)
            assert (image[a] > 0).mean() > 0.5


def test_a_2d_keeper_sees_slices_and_a_large_3d_one_a_single_patch() -> None:
    image = brain((40, 40, 40))
    slices = central_patches(image, (32, 32))
    assert 12 <= len(slices) <= 16
    assert all(place[0].stop - place[0].start == 1 for place in slices)
    assert all(place[1:] == slices[0][1:] for place in slices)
    assert central_patches(image, (32, 32, 32)) == [(slice(4, 36),) * 3]
    assert len(central_patches(image, (12, 12, 12))) == 8
    assert central_patches(image, (64, 64, 64)) == [(slice(0, 64),) * 3]


def test_the_means_are_those_of_the_keepers_maps_over_its_patches() -> None:
    image = brain((20, 40, 40))
    keeper = KnowledgeKeeper(dim=2, base_features=4, kernel_size=3).eval()
    found = channel_means(keeper, image[None], (32, 32))
    with torch.no_grad():
        every = [keeper(torch.from_numpy(image[place].copy())[None]) for place in central_patches(image, (32, 32))]
    for level, values in enumerate(found):
        expected = torch.stack([maps[level].mean(dim=(0, 2, 3)) for maps in every]).mean(dim=0)
        np.testing.assert_allclose(values, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_an_image_smaller_than_the_patch_is_padded_with_zeros() -> None:
    seen = []

    def guides(patch: Tensor) -> list[Tensor]:
        seen.append(patch)
        return [patch]

    image = brain((20, 20, 20)) + 1
    (values,) = channel_means(guides, image[None], (32, 32, 32))
    assert [tuple(patch.shape) for patch in seen] == [(1, 1, 32, 32, 32)]
    assert values[0] == pytest.approx(image.sum() / 32**3, rel=1e-4)


def test_an_image_without_contrast_is_refused() -> None:
    with pytest.raises(ValueError, match="without contrast"):
        central_patches(np.ones((8, 8, 8), np.float32), (4, 4))


def test_the_distance_counts_standard_deviations() -> None:
    """Channels of equal variance: no shrinkage to speak of, and the mean of many cases is exact."""
    rng = np.random.default_rng(1)
    training = [[rng.standard_normal(50)] for _ in range(400)]
    statistics = summarise_features(training)
    level = statistics["levels"][0]
    for shift in (0.0, 3.0, 10.0):
        (distance,) = distances_of([np.array(level["mean"]) + shift * np.array(level["std"])], statistics)
        assert distance == pytest.approx(shift, rel=0.02)
    assert level["distances"]["mean"] == pytest.approx(1, abs=0.03)


def test_levels_are_joined_by_the_root_of_their_mean_square() -> None:
    assert overall_distance([3.0, 3.0]) == pytest.approx(3)
    assert overall_distance([0.0, 4.0]) == pytest.approx(8**0.5)


def test_unseen_cases_of_the_same_kind_are_within_and_others_far_beyond() -> None:
    statistics = summarise_features(cases(30), cases(40, seed=1))
    verdicts = [
        familiarity(overall_distance(distances_of(case, statistics)), statistics["distances"])
        for case in cases(200, seed=2)
    ]
    assert 0.85 < np.mean([one == "within" for one in verdicts]) < 1
    assert "far beyond" not in verdicts
    for case in cases(5, shift=5, seed=3):
        assert familiarity(overall_distance(distances_of(case, statistics)), statistics["distances"]) == "far beyond"


def test_a_channel_that_never_varied_does_not_decide_alone() -> None:
    training = [[np.array([0.0, *rng.standard_normal(7)])] for rng in map(np.random.default_rng, range(20))]
    statistics = summarise_features(training)
    still = np.array(statistics["levels"][0]["mean"])
    (distance,) = distances_of([still + np.array([0.5, *np.zeros(7)])], statistics)
    assert distance < 1
    assert all(np.isfinite(distances_of([np.array([1.0, 2.0])], summarise_features([[np.zeros(2)]] * 3))))


def test_enough_held_out_cases_alone_say_what_is_usual() -> None:
    training, held_out = cases(12), cases(25, seed=1, shift=1.0)
    statistics = summarise_features(training, held_out)
    distances = [overall_distance(distances_of(case, statistics)) for case in held_out]
    assert statistics["distances"]["max"] == pytest.approx(max(distances), rel=1e-3)
    assert statistics["distances"]["p95"] == pytest.approx(np.percentile(distances, 95), rel=1e-3)


def test_few_held_out_cases_are_joined_by_training_cases_that_were_left_out() -> None:
    training = cases(12)
    training[0] = [10 * values for values in training[0]]
    alone = summarise_features(training)
    without, others = summarise_features(training[1:]), training[0]
    assert alone["distances"]["max"] == pytest.approx(overall_distance(distances_of(others, without)), rel=1e-3)
    far = summarise_features(training[1:], cases(2, shift=8, seed=1))
    assert far["distances"]["max"] > 2 * without["distances"]["max"]
    assert far["levels"][0]["mean"] == without["levels"][0]["mean"], "held-out cases are not in the statistics"


def test_statistics_are_short_json() -> None:
    statistics = summarise_features(cases(7))
    assert json.loads(json.dumps(statistics, allow_nan=False)) == statistics
    assert statistics["cases"] == 7
    assert [len(level["mean"]) for level in statistics["levels"]] == list(CHANNELS)
    assert max(len(str(value)) for level in statistics["levels"] for value in level["mean"]) <= 12


def test_what_makes_no_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="2 training cases"):
        summarise_features(cases(2))
    with pytest.raises(ValueError, match="channels"):
        distances_of([np.zeros(3), np.zeros(8)], summarise_features(cases(5)))
    with pytest.raises(ValueError, match="zip"):
        distances_of([np.zeros(4)], summarise_features(cases(5)))


def test_the_verdict_is_far_only_beyond_twice_the_percentile_and_every_unseen_case() -> None:
    usual = {"p95": 2.0, "max": 5.0}
    assert [familiarity(d, usual) for d in (2.0, 2.1, 4.9, 5.0, 5.1)] == [
        "within",
        "beyond",
        "beyond",
        "beyond",
        "far beyond",
    ]
    assert familiarity(3.9, {"p95": 2.0, "max": 3.0}) == "beyond"
