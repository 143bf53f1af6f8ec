from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field import PRESETS, SNRDistribution, find_preset, profile_for_ratio


@pytest.mark.parametrize("name", PRESETS)
def test_many_draws_reproduce_mean_and_covariance_of_a_preset(name: str) -> None:
    snr = PRESETS[name].snr
    pairs = snr.draw(np.random.default_rng(0), size=100_000)
    # standard errors at 1e5 draws: sd / 316 for the mean (< 0.03), 0.45 % for variances; tolerances are 4 of them
    np.testing.assert_allclose(pairs.mean(axis=0), snr.mean, atol=0.12)
    np.testing.assert_allclose(np.cov(pairs.T), snr.covariance, rtol=0.02)


def test_rejection_leaves_nothing_outside_the_95_percent_ellipse_and_keeps_the_mean() -> None:
    snr = PRESETS["flair_0.36T"].snr
    inverse = np.linalg.inv(snr.covariance)

    def distances(pairs: np.ndarray) -> np.ndarray:
        offset = pairs - np.asarray(snr.mean)
        return np.einsum("ni,ij,nj->n", offset, inverse, offset)

    free = snr.draw(np.random.default_rng(1), size=100_000)
    kept = snr.draw(np.random.default_rng(1), size=100_000, reject_outliers=True)
    assert (distances(free) > 5.991).mean() == pytest.approx(0.05, abs=0.003)  # four standard errors
    assert distances(kept).max() <= 5.992
    np.testing.assert_allclose(kept.mean(axis=0), snr.mean, atol=0.12)
    # E[d^2 | d^2 < q] / 2 with exp(-q / 2) = 0.05
    np.testing.assert_allclose(np.cov(kept.T), 0.842 * np.asarray(snr.covariance), rtol=0.02)


def test_a_zero_covariance_gives_one_fixed_pair_with_and_without_rejection() -> None:
    fixed = SNRDistribution(mean=(30.0, 20.0), covariance=((0.0, 0.0), (0.0, 0.0)))
    for reject in (False, True):
        pairs = fixed.draw(np.random.default_rng(0), size=50, reject_outliers=reject)
        np.testing.assert_array_equal(pairs, np.tile([30.0, 20.0], (50, 1)))


def test_no_pair_is_ever_zero_or_negative() -> None:
    broad = SNRDistribution(mean=(2.0, 1.0), covariance=((4.0, 0.0), (0.0, 4.0)))
    assert (broad.draw(np.random.default_rng(0), size=10_000) > 0).all()


@pytest.mark.parametrize(
    ("mean", "covariance", "reason"),
    [
        ((0.0, 10.0), ((1.0, 0.0), (0.0, 1.0)), "positive"),
        ((float("nan"), 10.0), ((1.0, 0.0), (0.0, 1.0)), "positive"),
        ((10.0, 10.0), ((1.0, 2.0), (2.0, 1.0)), "covariance"),
        ((10.0, 10.0), ((1.0, 0.5), (0.0, 1.0)), "covariance"),
        ((10.0,), ((1.0, 0.0), (0.0, 1.0)), "two numbers"),
    ],
)
def test_what_is_no_distribution_is_refused(mean: tuple, covariance: tuple, reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        SNRDistribution(mean=mean, covariance=covariance)


def test_white_matter_is_brighter_in_t1w_and_darker_in_flair() -> None:
    white, grey = PRESETS["t1w_0.36T_probable"].snr.mean
    assert white > grey
    white, grey = PRESETS["flair_0.36T"].snr.mean
    assert white < grey


def test_every_preset_names_its_source() -> None:
    for preset in PRESETS.values():
        assert "Lin et al." in preset.source
        assert preset.field_tesla == 0.36


def test_the_published_ratios_have_the_published_thickness_and_gap() -> None:
    for ratio, thickness, gap in ((4, 3, 1), (8, 6, 2)):
        profile = profile_for_ratio(ratio)
        assert (profile.thickness, profile.gap) == (thickness, gap)
    with pytest.raises(UHFError, match="no slice profile for ratio 5"):
        profile_for_ratio(5)


def test_measurements_of_ones_own_are_read_from_a_json_file(tmp_path: Path) -> None:
    content = {
        "contrast": "T2w",
        "field_T": 0.1,
        "mean": [20, 25],
        "covariance": [[4, 1], [1, 4]],
        "source": "made up for this test",
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    preset = find_preset(str(path))
    assert preset.snr == SNRDistribution(mean=(20.0, 25.0), covariance=((4.0, 1.0), (1.0, 4.0)))
    assert (preset.name, preset.contrast, preset.field_tesla) == ("mine", "T2w", 0.1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not readable"),
        ("[]", "not readable"),
        ('{"mean": [1, 2]}', "lacks covariance"),
        ('{"mean": [1, 2, 3], "covariance": [[1, 0], [0, 1]]}', "not readable"),
        ('{"mean": [-1, 2], "covariance": [[1, 0], [0, 1]]}', "positive"),
    ],
)
def test_a_wrong_preset_file_is_named_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(UHFError, match=reason) as error:
        find_preset(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UHFError, match=r"64mT.*flair_0\.36T"):
        find_preset("t1w_64mT")
    with pytest.raises(UHFError, match="cannot be read"):
        find_preset("absent.json")
