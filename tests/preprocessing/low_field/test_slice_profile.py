from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field import SliceProfile, profile_for_ratio
from nnunet_uhf.preprocessing.low_field.slice_profile import (
    crop_to_multiple,
    fill_slices,
    slice_affine,
    take_slices,
)

RATIOS = (2, 3, 4, 6, 8)


def measured_fwhm(profile: SliceProfile) -> float:
    """FWHM in voxels of the weights with which slice k sees an impulse that moves voxel by voxel."""
    size, slice_index = 15 * profile.ratio, 7
    response = np.empty(size)
    for position in range(size):
        impulse = np.zeros((size, 1, 1), dtype=np.float32)
        impulse[position] = 1
        response[position] = take_slices(impulse, profile, axis=0)[slice_index, 0, 0]
    # log of a Gaussian is a parabola: fit it instead of interpolating a curve of few samples
    seen = response > 0.05 * response.max()
    curvature = np.polyfit(np.arange(size)[seen], np.log(response[seen]), 2)[0]
    return float(2 * np.sqrt(np.log(2) / -curvature))


@pytest.mark.parametrize("ratio", RATIOS)
def test_an_impulse_is_seen_with_a_full_width_at_half_maximum_of_the_slice_thickness(ratio: int) -> None:
    profile = profile_for_ratio(ratio)
    assert measured_fwhm(profile) == pytest.approx(profile.thickness, rel=0.03)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("ratio", RATIOS)
def test_there_are_floor_n_over_r_slices_and_an_impulse_at_k_r_lands_in_slice_k(ratio: int, axis: int) -> None:
    shape = [5, 6, 7]
    shape[axis] = 5 * ratio + ratio - 1
    image = np.zeros(shape, dtype=np.float32)
    where = [2, 3, 4]
    where[axis] = 3 * ratio
    image[tuple(where)] = 1
    slices = take_slices(image, profile_for_ratio(ratio), axis=axis)
    assert slices.shape[axis] == 5
    where[axis] = 3
    assert np.unravel_index(slices.argmax(), slices.shape) == tuple(where)
    # in-plane nothing moves or spreads
    line = np.moveaxis(slices, axis, -1)
    assert np.count_nonzero(line.sum(axis=-1)) == 1


def test_blur_and_sampling_equal_scipys_gaussian_filter() -> None:
    image = np.random.default_rng(0).normal(size=(4, 37, 5)).astype(np.float32)
    profile = SliceProfile(thickness=3, gap=1)
    expected = ndimage.gaussian_filter1d(image.astype(np.float64), 3 / 2.3548, axis=1, truncate=6)[:, ::4][:, :9]
    # scipy cuts the kernel at 6 sigma, this one at 5: weights below 4e-6
    np.testing.assert_allclose(take_slices(image, profile, axis=1), expected, atol=2e-5)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_constant_image_stays_constant_up_to_the_border_there_and_back(ratio: int) -> None:
    image = np.full((3, 3, 4 * ratio + 1), 7.0, dtype=np.float32)
    slices = take_slices(image, profile_for_ratio(ratio), axis=2)
    np.testing.assert_allclose(slices, 7, rtol=1e-6)
    filled = fill_slices(slices, ratio=ratio, size=image.shape[2], axis=2)
    np.testing.assert_allclose(filled, 7, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_filled_slices_pass_through_every_slice_and_have_the_size_asked_for(axis: int) -> None:
    slices = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    size = slices.shape[axis] * 3 + 2
    filled = fill_slices(slices, ratio=3, size=size, axis=axis)
    assert filled.shape[axis] == size
    at_slices = np.moveaxis(filled, axis, 0)[: 3 * slices.shape[axis] : 3]
    np.testing.assert_allclose(at_slices, np.moveaxis(slices, axis, 0), atol=1e-5)


def test_filled_slices_reproduce_a_smooth_curve_between_the_slices() -> None:
    curve = np.sin(np.arange(60) / 60 * 2 * np.pi).astype(np.float32)[:, None, None]
    filled = fill_slices(curve[::3], ratio=3, size=60, axis=0)
    # away from the ends, where the spline has no neighbours, a cubic spline is good to the fourth order
    np.testing.assert_allclose(filled[9:48], curve[9:48], atol=1e-3)


def test_at_ratio_one_nothing_happens() -> None:
    image = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    slices = take_slices(image, SliceProfile(thickness=1, gap=0), axis=2)
    np.testing.assert_array_equal(slices, image)
    np.testing.assert_array_equal(fill_slices(slices, ratio=1, size=7, axis=2), image)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_affine_puts_slice_k_where_voxel_k_r_was_in_the_world(axis: int) -> None:
    affine = np.array([[0.1, -1.9, 0.2, 30.0], [1.2, 0.1, 0.3, -20.0], [0.0, 0.3, 2.4, 11.0], [0, 0, 0, 1]])
    voxel = np.array([4, 8, 12])
    in_slices = voxel.astype(float)
    in_slices[axis] /= 4
    thick = slice_affine(affine, ratio=4, axis=axis)
    np.testing.assert_allclose(
        nib.affines.apply_affine(thick, in_slices), nib.affines.apply_affine(affine, voxel), atol=1e-12
    )
    np.testing.assert_allclose(nib.affines.voxel_sizes(thick)[axis], 4 * nib.affines.voxel_sizes(affine)[axis])


def test_cropping_keeps_what_the_slices_cover() -> None:
    image = np.arange(2 * 11 * 3).reshape(2, 11, 3)
    np.testing.assert_array_equal(crop_to_multiple(image, ratio=4, axis=1), image[:, :8])
    np.testing.assert_array_equal(crop_to_multiple(image, ratio=3, axis=2), image)


@pytest.mark.parametrize(("thickness", "gap"), [(0, 1), (-1, 2), (2, -1), (2, 0.5), (float("nan"), 1), (0.2, 0.1)])
def test_impossible_profiles_are_refused(thickness: float, gap: float) -> None:
    with pytest.raises(UHFError, match="slice thickness"):
        SliceProfile(thickness=thickness, gap=gap)


def test_an_axis_too_short_for_two_slices_is_refused() -> None:
    with pytest.raises(UHFError, match="7 voxels along the slice axis hold 1 slices at ratio 4"):
        take_slices(np.zeros((7, 2, 2), dtype=np.float32), profile_for_ratio(4), axis=0)
