from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field import (
    PRESETS,
    LowFieldDraw,
    LowFieldSimulator,
    SliceProfile,
    TissueMaps,
    TissueMeans,
    profile_for_ratio,
    target_image,
    tissue_means,
    tissues_from_labels,
)
from nnunet_uhf.preprocessing.low_field.slice_profile import take_slices

SIZE = 96
SNR = PRESETS["t1w_0.36T_probable"].snr


@pytest.fixture(scope="module")
def phantom() -> tuple[np.ndarray, TissueMaps]:
    """Nested balls of white matter, grey matter and CSF in air, 96^3, with a little texture, and their maps."""
    grid = np.indices((SIZE, SIZE, SIZE)) - (SIZE - 1) / 2
    radius = np.sqrt((grid**2).sum(axis=0))
    labels = np.select([radius < 24, radius < 36, radius < 42], [3, 2, 1], 0)
    signal = np.array([0.0, 400.0, 900.0, 1300.0])[labels]
    texture = 1 + 0.02 * np.sin(grid[0] / 5) * np.cos(grid[1] / 7)
    return (signal * texture).astype(np.float32), tissues_from_labels(labels, {"csf": 1, "gm": 2, "wm": 3})


def simulator(**changes: Any) -> LowFieldSimulator:
    """Thick slices of ratio 4, everything else as it comes."""
    return LowFieldSimulator(**{"snr": SNR, "profiles": (profile_for_ratio(4),), "grid": "native", **changes})


def draw(**changes: Any) -> LowFieldDraw:
    """A fixed scan."""
    values = {
        "snr_wm": 64.5,
        "snr_gm": 54.14,
        "profile": profile_for_ratio(4),
        "axis": 2,
        "noise_scale": 1.0,
        "noise_seed": 11,
    }
    return LowFieldDraw(**{**values, **changes})


@pytest.mark.parametrize("fixed", ["gm", "wm"])
@pytest.mark.parametrize("ratio", [3, 4])
def test_the_simulated_scan_has_the_drawn_snr_and_background_noise_within_one_percent(
    phantom: tuple[np.ndarray, TissueMaps], fixed: str, ratio: int
) -> None:
    image, tissues = phantom
    profile = profile_for_ratio(ratio)
    maker = simulator(fixed=fixed, profiles=(profile,))
    drawn = maker.draw(np.random.default_rng(3))
    result = maker.apply(image, tissues, drawn)
    maps = tissues.map(lambda array: take_slices(array, profile, axis=2))
    sigma = result.image[maps.total() < 1e-6].std()
    assert sigma == pytest.approx(result.noise_sigma, rel=0.01)  # 1e5 voxels of air: standard error 0.2 %
    # voxels of P > 0.9 hold up to 10 % of a neighbouring tissue, which moves the mean by a few tenths of a percent
    for probability, snr in ((maps.gm, drawn.snr_gm), (maps.wm, drawn.snr_wm)):
        assert result.image[probability > 0.9].mean() / result.noise_sigma == pytest.approx(snr, rel=0.01)


def test_the_fixed_tissue_keeps_its_brightness_csf_is_never_scaled_and_the_other_follows_the_drawn_ratio(
    phantom: tuple[np.ndarray, TissueMaps],
) -> None:
    image, tissues = phantom
    silent = draw(noise_scale=0.0, profile=SliceProfile(thickness=1, gap=0))
    means = tissue_means(image, tissues)
    contrast = silent.snr_wm / silent.snr_gm
    for fixed, factors in (
        ("gm", {"csf": 1.0, "gm": 1.0, "wm": contrast * means.gm / means.wm}),
        ("wm", {"csf": 1.0, "gm": means.wm / means.gm / contrast, "wm": 1.0}),
    ):
        result = simulator(fixed=fixed).apply(image, tissues, silent)
        for tissue, factor in factors.items():
            inside = getattr(tissues, tissue) == 1
            np.testing.assert_allclose(result.image[inside], factor * image[inside], rtol=1e-5)


def test_ratio_one_without_noise_and_with_the_measured_contrast_gives_the_target(
    phantom: tuple[np.ndarray, TissueMaps],
) -> None:
    image, tissues = phantom
    means = tissue_means(image, tissues)
    unchanged = draw(
        snr_wm=means.wm / 10, snr_gm=means.gm / 10, noise_scale=0.0, profile=SliceProfile(thickness=1, gap=0)
    )
    target = target_image(image, tissues)
    np.testing.assert_array_equal(target, tissues.total() * image)
    for grid in ("native", "regrid"):
        for fixed in ("gm", "wm"):
            result = simulator(grid=grid, fixed=fixed).apply(image, tissues, unchanged)
            np.testing.assert_allclose(result.image, target, rtol=1e-5, atol=1e-3)


def test_the_noise_scale_divides_the_snr_and_leaves_the_contrast_alone(phantom: tuple[np.ndarray, TissueMaps]) -> None:
    image, tissues = phantom
    once, thrice = (simulator().apply(image, tissues, draw(noise_scale=scale)) for scale in (1.0, 3.0))
    assert thrice.noise_sigma == pytest.approx(3 * once.noise_sigma)
    assert thrice.tissue_scale == once.tissue_scale


def test_rician_noise_makes_a_magnitude_image_with_the_rayleigh_mean_in_air(
    phantom: tuple[np.ndarray, TissueMaps],
) -> None:
    image, tissues = phantom
    result = simulator(noise="rician").apply(image, tissues, draw())
    assert result.image.min() >= 0
    air = take_slices(tissues.total(), profile_for_ratio(4), axis=2) < 1e-6
    assert result.image[air].mean() == pytest.approx(result.noise_sigma * np.sqrt(np.pi / 2), rel=0.01)


@pytest.mark.parametrize("grid", ["native", "regrid"])
@pytest.mark.parametrize("noise", ["gaussian", "rician"])
def test_a_scan_kept_to_the_brain_is_exactly_zero_outside_and_equal_inside(
    phantom: tuple[np.ndarray, TissueMaps], noise: str, grid: str
) -> None:
    image, tissues = phantom
    everywhere = simulator(noise=noise, grid=grid).apply(image, tissues, draw()).image
    stripped = simulator(noise=noise, grid=grid, noise_mask="brain").apply(image, tissues, draw()).image
    inside = stripped != 0
    np.testing.assert_array_equal(stripped[inside], everywhere[inside])
    brain = tissues.total() > 0
    assert inside.mean() == pytest.approx(brain.mean(), rel=0.02)


def test_the_same_draw_gives_the_same_image_and_another_seed_another_noise(
    phantom: tuple[np.ndarray, TissueMaps],
) -> None:
    image, tissues = phantom
    maker = simulator()
    first, again = (maker.draw(np.random.default_rng(5)) for _ in range(2))
    assert first == again
    np.testing.assert_array_equal(maker.apply(image, tissues, first).image, maker.apply(image, tissues, again).image)
    other = dataclasses.replace(first, noise_seed=first.noise_seed + 1)
    assert not np.array_equal(maker.apply(image, tissues, first).image, maker.apply(image, tissues, other).image)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_regrid_has_the_grid_of_the_input_and_shows_the_thick_slices_at_their_places(axis: int) -> None:
    rng = np.random.default_rng(0)
    shape = (25, 26, 27)
    image = rng.uniform(50, 100, shape).astype(np.float32)
    labels = np.full(shape, 2)
    labels[:, :, 13:] = 3
    tissues = tissues_from_labels(labels, {"csf": 1, "gm": 2, "wm": 3})
    native, regridded = (
        simulator(grid=grid).apply(image, tissues, draw(axis=axis)).image for grid in ("native", "regrid")
    )
    assert regridded.shape == shape
    count = shape[axis] // 4
    assert native.shape[axis] == count
    at_slices = np.moveaxis(regridded, axis, 0)[: 4 * count : 4]
    # noise is put on the slices before the spline, so both modes of one draw carry the same noise
    np.testing.assert_allclose(at_slices, np.moveaxis(native, axis, 0), rtol=1e-5, atol=1e-3)


def test_profiles_axes_and_noise_are_drawn_from_what_is_offered() -> None:
    profiles = (profile_for_ratio(3), profile_for_ratio(8))
    maker = simulator(profiles=profiles, axes=(0, 2), noise_scale=(1.0, 4.0))
    rng = np.random.default_rng(0)
    draws = [maker.draw(rng) for _ in range(200)]
    assert {drawn.profile for drawn in draws} == set(profiles)
    assert {drawn.axis for drawn in draws} == {0, 2}
    assert all(1 <= drawn.noise_scale <= 4 for drawn in draws)
    assert len({drawn.noise_seed for drawn in draws}) == 200


def test_a_patch_without_pure_tissue_is_simulated_with_the_means_of_the_scan(
    phantom: tuple[np.ndarray, TissueMaps],
) -> None:
    image, tissues = phantom
    corner = (slice(0, 24),) * 3
    patch, maps = image[corner], tissues.map(lambda array: array[corner])
    with pytest.raises(UHFError, match="no voxel has grey matter probability"):
        simulator().apply(patch, maps, draw())
    result = simulator().apply(patch, maps, draw(), means=TissueMeans(gm=900.0, wm=1300.0))
    assert result.noise_sigma == pytest.approx(900 / 54.14)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fixed": "csf"}, "fixed is 'csf'"),
        ({"noise": "poisson"}, "noise is 'poisson'"),
        ({"noise_mask": "skull"}, "noise mask is 'skull'"),
        ({"grid": "isotropic"}, "mode is 'isotropic'"),
        ({"noise_scale": (2.0, 1.0)}, "noise scale"),
        ({"noise_scale": (-1.0, 1.0)}, "noise scale"),
        ({"profiles": ()}, "no slice profile"),
        ({"axes": ()}, "no slice profile or no slice axis"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        simulator(**change)


def test_unequal_grids_a_missing_axis_and_z_scores_are_refused(phantom: tuple[np.ndarray, TissueMaps]) -> None:
    image, tissues = phantom
    with pytest.raises(UHFError, match="one grid"):
        simulator().apply(image[1:], tissues, draw())
    with pytest.raises(UHFError, match="one grid"):
        target_image(image[1:], tissues)
    with pytest.raises(UHFError, match="slice axis is 3"):
        simulator().apply(image, tissues, draw(axis=3))
    with pytest.raises(UHFError, match="raw intensities"):
        simulator().apply(image - 1000, tissues, draw())
