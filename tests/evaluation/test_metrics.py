"""PSNR, SSIM and linear fit against hand-computed values and scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from nnunet_uhf.evaluation.image_metrics import image_quality, linear_coefficients, linear_fit, mae, nrmse, psnr, ssim

Array = NDArray[np.float64]


def pair(shape: tuple[int, ...], noise: float = 0.1) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    truth = rng.random(shape)
    return truth, truth + noise * rng.standard_normal(shape)


def test_psnr_equals_the_value_computed_by_hand() -> None:
    truth = np.array([[0.0, 4.0], [0.0, 0.0]])
    image = np.array([[1.0, 4.0], [0.0, 1.0]])
    assert psnr(truth, image) == pytest.approx(10 * math.log10(16 / 0.5))
    assert psnr(truth, image, data_range=8) == pytest.approx(10 * math.log10(64 / 0.5))


def test_psnr_in_a_mask_counts_only_its_voxels_but_keeps_the_range_of_the_whole_truth() -> None:
    truth = np.array([[0.0, 4.0], [0.0, 0.0]])
    image = np.array([[1.0, 4.0], [0.0, 1.0]])
    mask = np.array([[1, 0], [1, 0]])
    assert psnr(truth, image, mask=mask) == pytest.approx(10 * math.log10(16 / 0.5))
    assert psnr(truth, image, mask=1 - mask) == pytest.approx(10 * math.log10(16 / 0.5))
    assert psnr(truth, image, mask=[[0, 1], [1, 0]]) == math.inf


@pytest.mark.parametrize("shape", [(20, 24), (12, 14, 16)])
def test_ssim_equals_scikit_image_with_the_range_of_the_truth(shape: tuple[int, ...]) -> None:
    truth, image = pair(shape)
    expected = structural_similarity(truth, image, data_range=truth.max() - truth.min())
    assert ssim(truth, image) == pytest.approx(expected, abs=1e-12)


def test_ssim_in_a_mask_is_the_mean_of_the_map_inside() -> None:
    truth, image = pair((20, 24))
    _, similarity = structural_similarity(truth, image, data_range=np.ptp(truth), full=True)
    mask = np.zeros(truth.shape, dtype=bool)
    mask[4:9, 3:12] = True
    assert ssim(truth, image, mask=mask) == pytest.approx(similarity[mask].mean(), abs=1e-12)


def test_ssim_of_an_image_with_itself_is_one_and_falls_with_noise() -> None:
    truth, little = pair((16, 16, 16), noise=0.05)
    _, much = pair((16, 16, 16), noise=0.5)
    assert ssim(truth, truth) == pytest.approx(1)
    assert 1 > ssim(truth, little) > ssim(truth, much)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ssim_of_a_volume_with_one_slice_equals_that_of_the_slice(axis: int) -> None:
    truth, image = pair((20, 24))
    volume = ssim(np.expand_dims(truth, axis), np.expand_dims(image, axis))
    assert volume == pytest.approx(ssim(truth, image), abs=1e-12)
    mask = truth > 0.5
    inside = ssim(np.expand_dims(truth, axis), np.expand_dims(image, axis), mask=np.expand_dims(mask, axis))
    assert inside == pytest.approx(ssim(truth, image, mask=mask), abs=1e-12)


def test_ssim_of_a_thin_volume_is_the_mean_over_its_slices() -> None:
    truth, image = pair((4, 20, 24))
    each = [ssim(t, i, data_range=np.ptp(truth)) for t, i in zip(truth, image, strict=True)]
    assert ssim(truth, image) == pytest.approx(np.mean(each), abs=1e-12)


def test_images_too_small_for_the_window_are_refused_with_their_shape() -> None:
    with pytest.raises(ValueError, match=r"\(5, 6, 20\)"):
        ssim(*pair((5, 6, 20)))
    with pytest.raises(ValueError, match=r"\(6, 20\)"):
        ssim(*pair((6, 20)))


def test_nrmse_and_mae_equal_the_values_computed_by_hand() -> None:
    truth = np.array([[0.0, 4.0], [3.0, 0.0]])
    image = np.array([[1.0, 4.0], [3.0, -3.0]])
    assert nrmse(truth, image) == pytest.approx(math.sqrt(10) / 5)
    assert mae(truth, image) == pytest.approx(1)
    mask = [[1, 1], [1, 0]]
    assert nrmse(truth, image, mask=mask) == pytest.approx(1 / 5)
    assert mae(truth, image, mask=mask) == pytest.approx(1 / 3)


def test_nrmse_of_a_truth_that_is_zero_is_refused() -> None:
    truth = np.array([[0.0, 4.0], [3.0, 0.0]])
    with pytest.raises(ValueError, match="zero in all 2 voxels"):
        nrmse(truth, truth, mask=truth == 0)


def test_linear_fit_undoes_any_gain_and_offset() -> None:
    truth, _ = pair((8, 9, 10))
    np.testing.assert_allclose(linear_fit(truth, -3 * truth + 7), truth, atol=1e-12)
    a, b = linear_coefficients(truth, -3 * truth + 7)
    assert (a, b) == (pytest.approx(-1 / 3), pytest.approx(7 / 3))


def test_linear_fit_looks_inside_the_mask_and_applies_everywhere() -> None:
    truth, _ = pair((20, 24))
    image = 2 * truth + 1
    mask = truth > 0.5
    image[~mask] = 100
    fitted = linear_fit(truth, image, mask)
    np.testing.assert_allclose(fitted[mask], truth[mask], atol=1e-12)
    np.testing.assert_allclose(fitted[~mask], 49.5, atol=1e-12)


def test_linear_fit_of_a_constant_image_is_the_mean_of_the_truth() -> None:
    truth, _ = pair((6, 7))
    np.testing.assert_allclose(linear_fit(truth, np.ones_like(truth)), truth.mean())


def test_linear_fit_never_raises_the_error() -> None:
    truth, image = pair((20, 24), noise=1.0)
    assert psnr(truth, linear_fit(truth, image)) >= psnr(truth, image)


def test_image_quality_reports_the_grid_and_the_brain() -> None:
    truth, image = pair((12, 14, 16))
    mask = truth > 0.3
    quality = image_quality(truth, image, mask)
    assert quality == {
        "psnr": psnr(truth, image),
        "ssim": ssim(truth, image),
        "psnr_brain": psnr(truth, image, mask=mask),
        "ssim_brain": ssim(truth, image, mask=mask),
    }
    assert all(type(value) is float for value in quality.values())


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_compared_is_refused(metric: type) -> None:
    truth, image = pair((20, 24))
    broken = image.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN"):
        metric(truth, broken)
    with pytest.raises(ValueError, match=r"\(20, 24\) and \(19, 24\)"):
        metric(truth, image[1:])
    with pytest.raises(ValueError, match=r"\(20, 24\) is constant"):
        metric(np.ones((20, 24)), image)
    with pytest.raises(ValueError, match=r"empty"):
        metric(truth, image, mask=np.zeros((20, 24)))
    with pytest.raises(ValueError, match=r"mask and image differ"):
        metric(truth, image, mask=np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"data_range must be above 0"):
        metric(truth, image, data_range=0)
    with pytest.raises(ValueError, match=r"2D or 3D"):
        metric(truth[None, None], image[None, None])
