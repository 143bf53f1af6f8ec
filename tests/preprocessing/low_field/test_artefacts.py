from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field import PRESETS, Artefacts, LowFieldSimulator, TissueMaps, profile_for_ratio
from nnunet_uhf.preprocessing.low_field.artefacts import ArtefactDraw, disturb

ALL = {"bias_field": 0.3, "motion_probability": 1.0, "spike_probability": 1.0}


def slices(shape: tuple[int, ...] = (6, 24, 20)) -> np.ndarray:
    """A box with texture inside zeros."""
    image = np.zeros(shape, np.float32)
    inside = tuple(slice(n // 4, n - n // 4) for n in shape)
    image[inside] = 100 + np.random.default_rng(3).random(image[inside].shape, dtype=np.float32)
    return image


def simulator(**changes: Any) -> LowFieldSimulator:
    return LowFieldSimulator(
        snr=PRESETS["t1w_0.36T_probable"].snr, profiles=(profile_for_ratio(3),), axes=(0,), grid="native", **changes
    )


def test_without_artefacts_draws_are_those_of_the_plain_simulator_and_with_them_only_the_artefacts_are_new() -> None:
    plain, disturbed = (
        simulator(artefacts=artefacts).draw(np.random.default_rng(5)) for artefacts in (Artefacts(), Artefacts(**ALL))
    )
    assert plain == simulator().draw(np.random.default_rng(5))
    assert plain.artefacts is None
    assert disturbed.artefacts is not None
    assert (disturbed.snr_wm, disturbed.noise_seed) == (plain.snr_wm, plain.noise_seed)


def test_artefacts_are_as_frequent_as_their_probability_says() -> None:
    rng, artefacts = np.random.default_rng(0), Artefacts(motion_probability=0.3, spike_probability=0.1, movements=3)
    draws = [artefacts.draw(rng) for _ in range(2000)]
    moved, spiked = [d for d in draws if d.times], [d for d in draws if d.spikes]
    assert len(moved) / 2000 == pytest.approx(0.3, abs=0.04)
    assert len(spiked) / 2000 == pytest.approx(0.1, abs=0.03)
    assert all(len(d.rotations) == len(d.shifts) == len(d.times) == 3 for d in moved)
    assert all(np.all(np.diff(d.times) > 0) and d.times[0] > 0 and d.times[-1] < 1 for d in moved)
    assert not any(d.bias for d in draws)


def test_a_bias_field_is_smooth_and_keeps_the_mean_signal_and_the_empty_background() -> None:
    image = np.pad(np.full((8, 20, 20), 50, np.float32), 4)
    draw = Artefacts(bias_field=0.4).draw(np.random.default_rng(1))
    biased = disturb(image, draw, axis=0, ratio=3)
    assert biased.mean() == pytest.approx(image.mean(), rel=1e-4)
    assert (biased[image == 0] == 0).all()
    field = biased[4:-4, 4:-4, 4:-4] / 50
    assert field.std() > 0.02
    assert np.abs(np.diff(np.log(field), axis=1)).max() < 0.2


def test_a_head_that_does_not_move_gives_the_scan_itself() -> None:
    still = ArtefactDraw(rotations=((0.0,) * 3,), shifts=((0.0,) * 3,), times=(0.5,))
    np.testing.assert_allclose(disturb(slices(), still, axis=0, ratio=3), slices(), atol=1e-3)


def test_a_shift_in_the_plane_ghosts_along_the_phase_axis_and_treats_all_slices_alike() -> None:
    image = np.zeros((5, 32, 32), np.float32)
    image[:, 12:20, 12:20] = 100
    ghosts = []
    for phase_axis in (0, 1):
        shifts = ((0.0, 4.0, 4.0),)
        draw = ArtefactDraw(rotations=((0.0,) * 3,), shifts=shifts, times=(0.4,), phase_axis=phase_axis)
        moved = disturb(image, draw, axis=0, ratio=3)
        np.testing.assert_allclose(moved, np.repeat(moved[:1], 5, axis=0), atol=1e-2)
        along_first, along_second = np.abs(moved[2, :6]).sum(), np.abs(moved[2, :, :6]).sum()
        ghosts.append(along_first / along_second)
    assert ghosts[0] > 2
    assert ghosts[1] < 0.5


def test_the_slice_axis_decides_and_not_its_place_in_the_array() -> None:
    draw = Artefacts(**ALL).draw(np.random.default_rng(2))
    expected = disturb(slices(), draw, axis=0, ratio=3)
    for axis in (1, 2):
        moved = disturb(np.moveaxis(slices(), 0, axis), draw, axis=axis, ratio=3)
        np.testing.assert_allclose(np.moveaxis(moved, axis, 0), expected, atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_single_slice_moves_within_its_plane(axis: int) -> None:
    image = slices((24, 20))
    draw = Artefacts(motion_probability=1, movements=2).draw(np.random.default_rng(4))
    moved = disturb(image, draw, axis=axis, ratio=2)
    assert moved.shape == image.shape
    assert np.abs(moved - image).max() > 5
    # what the other two rotations and the shift through the plane are does not matter
    flat = ArtefactDraw(
        rotations=tuple((r[0], 0.0, 0.0) for r in draw.rotations),
        shifts=tuple((0.0, s[1], s[2]) for s in draw.shifts),
        times=draw.times,
        phase_axis=1 - draw.phase_axis,
    )
    np.testing.assert_array_equal(disturb(image, flat, axis=axis, ratio=2), moved)


def test_a_spike_is_one_wave_over_the_whole_image() -> None:
    image = slices()
    wave = disturb(image, ArtefactDraw(spikes=((0.5, 0.7, 0.3),), spike_intensity=0.5), axis=0, ratio=3) - image
    spectrum = np.sort(np.abs(np.fft.fftn(wave)).ravel())
    assert spectrum[-2] == pytest.approx(spectrum[-1], rel=1e-3)  # a real wave has two lines
    assert spectrum[-3] < 0.01 * spectrum[-1]


@pytest.mark.parametrize("shape", [(4, 24, 20), (24, 20)])
def test_cropped_kspace_is_empty_beyond_the_share_and_as_it_was_within_it(shape: tuple[int, ...]) -> None:
    image = 100 + np.random.default_rng(0).random(shape).astype(np.float32)
    cropped = disturb(image, ArtefactDraw(acquired=(0.5, 0.75)), axis=0, ratio=3)
    plane = tuple(range(1, len(shape)))
    before, after = (np.fft.fftn(one, axes=plane) for one in (image, cropped))
    kept = np.ones(shape, bool)
    for axis, share in zip(plane, (0.5, 0.75), strict=False):
        frequency = 2 * np.abs(np.fft.fftfreq(shape[axis]))
        kept &= (frequency <= share).reshape([-1 if other == axis else 1 for other in range(len(shape))])
    assert np.abs(after[~kept]).max() < 1e-3
    np.testing.assert_allclose(after[kept], before[kept], atol=1e-2)
    assert cropped.dtype == np.float32
    assert cropped.mean() == pytest.approx(image.mean(), rel=1e-5)


def test_a_crop_of_kspace_is_drawn_up_to_its_limit_and_needs_no_torchio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchio", None)
    artefacts, rng = Artefacts(kspace_crop=0.6), np.random.default_rng(0)
    drawn = np.array([artefacts.draw(rng).acquired for _ in range(200)])
    assert drawn.shape == (200, 2)
    assert 0.4 <= drawn.min() < 0.45
    assert 0.95 < drawn.max() <= 1
    assert disturb(slices(), artefacts.draw(rng), axis=0, ratio=3).shape == slices().shape


def test_the_simulator_disturbs_the_signal_before_it_adds_noise_and_repeats_itself() -> None:
    image = slices((24, 24, 20))
    grey = np.where(np.arange(20) < 10, 1.0, 0.0) * (image > 0)
    tissues = TissueMaps(gm=grey.astype(np.float32), wm=((image > 0) - grey).astype(np.float32), csf=0 * image)
    disturbing = simulator(artefacts=Artefacts(**ALL))
    draw = disturbing.draw(np.random.default_rng(0))
    first, again = (disturbing.apply(image, tissues, draw) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    undisturbed = disturbing.apply(image, tissues, simulator().draw(np.random.default_rng(0)))
    assert first.noise_sigma == undisturbed.noise_sigma
    assert np.abs(first.image - undisturbed.image).mean() > 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"bias_field": -0.1},
        {"motion_probability": 1.5},
        {"movements": 0},
        {"spikes": 21},
        {"motion_degrees": 90.0},
        {"kspace_crop": 0.95},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UHFError, match=next(iter(wrong))):
        Artefacts(**wrong)


def test_a_missing_torchio_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchio", None)
    Artefacts()
    with pytest.raises(UHFError, match=r"nnunet-uhf\[artefacts\]"):
        Artefacts(bias_field=0.2)
