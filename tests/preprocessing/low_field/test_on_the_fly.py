from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from helpers.tiny_data import make_channel, make_labels
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field import LowFieldSimulator, PairSimulation, SliceProfile, find_preset
from nnunet_uhf.preprocessing.low_field.presets import profile_for_ratio

LABELS = make_labels((48, 52, 56), np.random.default_rng(0)).astype(np.int16)
RAW = make_channel(LABELS, "HF", np.random.default_rng(1))
TISSUES = {"csf": 1, "gm": 2, "wm": 3}


def simulation(*, masked: bool = True, ratios: tuple[int, ...] = (1, 2, 4), **changes: Any) -> PairSimulation:
    simulator = LowFieldSimulator(
        snr=find_preset("t1w_0.36T_probable").snr,
        profiles=tuple(profile_for_ratio(ratio) for ratio in ratios),
        **{"axes": (0, 1, 2), **changes},
    )
    return PairSimulation(simulator=simulator, tissues=TISSUES, masked=masked)


def preprocessed(raw: np.ndarray = RAW, *, masked: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels as nnU-Net's preprocessing leaves them: z-scored, -1 outside the nonzero mask."""
    inside = raw != 0
    counted = raw[inside] if masked else raw
    image = (raw - counted.mean()) / counted.std()
    if masked:
        image[~inside] = 0
    return image.astype(np.float32), np.where(inside, LABELS, np.int16(-1))


@pytest.mark.parametrize(
    ("masked", "changes", "tolerance"),
    [
        (True, {}, 0.015),
        (True, {"fixed": "wm", "noise_mask": "brain"}, 0.015),
        (False, {}, 0.015),
        (False, {"noise_mask": "brain"}, 0.015),
        (False, {"noise": "rician"}, 0.02),
        # the bias of a magnitude image where the signal is as low as the noise is left out
        (True, {"noise": "rician"}, 0.09),
    ],
)
def test_a_patch_is_normalised_as_the_whole_low_field_scan_would_be(
    masked: bool, changes: dict[str, Any], tolerance: float
) -> None:
    """The patch is the whole case here, so that its own mean and deviation are the ones to be predicted."""
    pairs = simulation(masked=masked, noise_scale=(1.0, 6.0), **changes)
    image, labels = preprocessed(masked=masked)
    case, rng = pairs.measure(image, labels), np.random.default_rng(2)
    for _ in range(12):
        source, _ = pairs.of_patch(image, labels, pairs.simulator.draw(rng), case)
        counted = source[labels != -1] if masked else source
        assert counted.mean() == pytest.approx(0, abs=tolerance)
        assert counted.std() == pytest.approx(1, abs=tolerance)


def test_a_whole_case_is_normalised_by_its_own_mean_and_deviation() -> None:
    pairs = simulation()
    image, labels = preprocessed()
    draw = pairs.simulator.draw(np.random.default_rng(3))
    source, target = pairs.of_case(image, labels, draw, pairs.measure(image, labels))
    assert source[labels != -1].mean() == pytest.approx(0, abs=1e-4)
    assert source[labels != -1].std() == pytest.approx(1, abs=1e-4)
    assert (source[labels == -1] == 0).all()
    assert np.array_equal(target, image)  # every voxel inside is tissue


def test_the_contrast_of_white_and_grey_matter_is_the_drawn_one() -> None:
    pairs = simulation(masked=False, ratios=(1,), noise_scale=(0.0, 0.0))
    image, labels = preprocessed(masked=False)
    case, rng = pairs.measure(image, labels), np.random.default_rng(4)
    for _ in range(5):
        draw = pairs.simulator.draw(rng)
        source, _ = pairs.of_patch(image, labels, draw, case)
        silent, grey, white = (float(source[label == labels].mean()) for label in (-1, 2, 3))
        assert (white - silent) / (grey - silent) == pytest.approx(draw.snr_wm / draw.snr_gm, rel=0.01)


def test_the_noise_has_the_drawn_snr() -> None:
    pairs = simulation(masked=False, ratios=(1,))
    image, labels = preprocessed(masked=False)
    case = pairs.measure(image, labels)
    draw = pairs.simulator.draw(np.random.default_rng(5))
    source, _ = pairs.of_patch(image, labels, draw, case)
    air, grey = source[labels == -1], source[labels == 2]
    assert (grey.mean() - air.mean()) / air.std() == pytest.approx(draw.snr_gm, rel=0.015)


def test_the_scale_of_the_raw_intensities_does_not_matter() -> None:
    pairs = simulation()
    draw = pairs.simulator.draw(np.random.default_rng(6))
    made = []
    for factor in (1.0, 37.0):
        image, labels = preprocessed(RAW * np.float32(factor))
        made.append(pairs.of_patch(image, labels, draw, pairs.measure(image, labels)))
    np.testing.assert_allclose(made[0], made[1], atol=1e-3)


def test_a_patch_without_brain_holds_noise_alone() -> None:
    pairs = simulation(masked=False)
    image, labels = preprocessed(masked=False)
    case, rng = pairs.measure(image, labels), np.random.default_rng(7)
    empty, nothing = np.full((16, 16, 16), case.dark, np.float32), np.zeros((16, 16, 16), np.int16)
    for outside in (nothing, nothing - 1):
        draw = dataclasses.replace(pairs.simulator.draw(rng), axis=1)
        source, target = pairs.of_patch(empty, outside, draw, case)
        assert np.isfinite(source).all()
        assert 0 < source.std() < 0.1
        assert (target == np.float32(case.dark)).all()


@pytest.mark.parametrize(("masked", "padded_label"), [(False, -1), (False, 0), (True, -1)])
def test_padding_stays_zero_as_it_is_in_prediction(masked: bool, padded_label: int) -> None:
    """nnU-Net pads preprocessed images with 0, labels with -1, or with 0 where it rotates."""
    pairs = simulation(masked=masked)
    image, labels = preprocessed(masked=masked)
    case, draw = pairs.measure(image, labels), pairs.simulator.draw(np.random.default_rng(8))
    width = [(0, 0), (6, 0), (0, 10)]
    padded = np.pad(image, width), np.pad(labels, width, constant_values=padded_label)
    source, target = pairs.of_patch(*padded, draw, case)
    outside = np.pad(np.zeros(image.shape, bool), width, constant_values=True)
    assert not source[outside].any()
    assert not target[outside].any()
    for image_part in (source[~outside], target[~outside]):
        assert (image_part != 0).mean() > (0.2 if masked else 0.99)


def test_a_slice_is_simulated_as_it_is_inside_of_its_volume() -> None:
    """Of the two axes of a slice; the third would need its neighbours."""
    pairs = simulation(noise_scale=(0.0, 0.0))
    image, labels = preprocessed()
    case = pairs.measure(image, labels)
    for axis in (1, 2):
        draw = dataclasses.replace(pairs.simulator.draw(np.random.default_rng(8)), axis=axis)
        volume, _ = pairs.of_patch(image, labels, draw, case)
        alone, target = pairs.of_patch(image[20], labels[20], draw, case)
        np.testing.assert_allclose(alone, volume[20], atol=1e-4)
        assert np.array_equal(target, image[20])


def test_what_is_no_tissue_is_dark_in_the_target() -> None:
    pairs = simulation(masked=False)
    image, labels = preprocessed(masked=False)
    case = pairs.measure(image, labels)
    labels[:, :, :28][labels[:, :, :28] == 3] = 0  # white matter that nobody labelled
    draw = pairs.simulator.draw(np.random.default_rng(9))
    _, target = pairs.of_patch(image, labels, draw, case)
    assert (target[labels == 0] == np.float32(case.dark)).all()
    assert np.array_equal(target[labels > 0], image[labels > 0])


def test_thick_slices_without_pure_grey_matter_fall_back_on_the_voxels_of_the_label() -> None:
    pairs = simulation(masked=False, ratios=(8,), axes=(0,))
    image, labels = preprocessed(masked=False)
    labels[labels == 2] = 1
    labels[24, :, :][labels[24, :, :] == 1] = 2  # a sheet, thinner than any slice
    case = pairs.measure(image, labels)
    expected = (image - case.dark).clip(0)[labels == 2].mean()
    assert case.moments[0, SliceProfile(thickness=6, gap=2)].means.gm == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"), [("no white matter", "no voxel has white matter"), ("thin", "need two")]
)
def test_a_case_that_cannot_be_simulated_says_why_when_it_is_measured(change: str, message: str) -> None:
    pairs = simulation(ratios=(8,), axes=(0,))
    image, labels = preprocessed()
    if change == "thin":
        image, labels = image[20:34], labels[20:34]
    else:
        labels[labels == 3] = 1
    with pytest.raises(UHFError, match=message):
        pairs.measure(image, labels)
