"""MS-SSIM against published implementations, in masks, and in volumes too small for five scales."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from nnunet_uhf.evaluation.multiscale import ms_ssim, ms_ssim_scales

Array = NDArray[np.float64]


def pair(shape: tuple[int, ...], noise: float = 0.1) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    truth = gaussian_filter(rng.standard_normal(shape), 2.0)
    truth /= truth.std()
    return truth, truth + noise * rng.standard_normal(shape)


@pytest.mark.parametrize(
    ("shape", "noise", "expected"),
    # MultiScaleSSIMMetric of MONAI 1.6.1 in float32: kernel 11, sigma 1.5, the same weights divided by their sum
    [
        ((180, 192), 0.1, 0.9982687),
        ((180, 192), 1.0, 0.8875762),
        ((48, 50, 44), 0.1, 0.9984202),
        ((48, 50, 44), 1.0, 0.8935783),
    ],
)
def test_without_mask_the_value_is_that_of_monai(shape: tuple[int, ...], noise: float, expected: float) -> None:
    assert ms_ssim(*pair(shape, noise)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("shape", "scales"),
    [
        ((176, 500), 5),
        ((175, 500), 4),
        ((120, 120, 90), 4),
        ((44, 44, 43), 2),
        ((22, 22, 22), 2),
        ((256, 256, 20), 5),
        ((1, 90, 100), 4),
        ((21, 21, 21), 1),
        ((11, 11), 1),
    ],
)
def test_as_many_scales_are_used_as_fit(shape: tuple[int, ...], scales: int) -> None:
    assert ms_ssim_scales(shape) == scales


@pytest.mark.parametrize("shape", [(10, 40), (10, 10, 40)])
def test_an_image_smaller_than_the_window_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        ms_ssim(*pair(shape))


def test_more_scales_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 2 scales"):
        ms_ssim(*pair((24, 24, 24)), scales=3)


def test_one_scale_is_ssim_with_the_gaussian_window() -> None:
    truth, image = pair((24, 30))
    expected = structural_similarity(
        truth, image, data_range=np.ptp(truth), gaussian_weights=True, use_sample_covariance=False
    )
    assert ms_ssim(truth, image, scales=1) == pytest.approx(expected, abs=1e-12)


def test_an_image_with_itself_is_one_and_noise_and_offset_lower_it() -> None:
    truth, little = pair((48, 48, 48))
    _, much = pair((48, 48, 48), noise=1.0)
    assert ms_ssim(truth, truth) == pytest.approx(1)
    assert 1 > ms_ssim(truth, little) > ms_ssim(truth, much) > 0
    assert ms_ssim(truth, truth + 3) < 0.999


def test_an_inverted_image_has_no_similarity() -> None:
    truth, _ = pair((48, 48))
    assert ms_ssim(truth, -truth) == 0


def test_errors_outside_the_mask_do_not_count() -> None:
    truth, image = pair((64, 64))
    mask = np.zeros(truth.shape, bool)
    mask[4:28, 4:60] = True
    image[44:] = 5  # farther away than the window of the coarser of two scales reaches
    spoilt = image.copy()
    spoilt[50:] = -5
    inside = ms_ssim(truth, image, mask=mask, scales=2)
    assert ms_ssim(truth, spoilt, mask=mask, scales=2) == pytest.approx(inside, abs=1e-12)
    assert ms_ssim(truth, spoilt, scales=2) < inside


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_has_the_value_of_the_slice(axis: int) -> None:
    truth, image = pair((48, 50))
    mask = truth > 0
    volume = [np.expand_dims(array, axis) for array in (truth, image, mask)]
    assert ms_ssim(*volume[:2]) == pytest.approx(ms_ssim(truth, image), abs=1e-12)
    assert ms_ssim(*volume[:2], mask=volume[2]) == pytest.approx(ms_ssim(truth, image, mask=mask), abs=1e-12)


def test_the_data_range_given_is_used_at_every_scale() -> None:
    truth, image = pair((48, 50))
    assert ms_ssim(truth, image, data_range=100 * np.ptp(truth)) > ms_ssim(truth, image)
    assert ms_ssim(7 * truth, 7 * image) == pytest.approx(ms_ssim(truth, image), abs=1e-12)


def test_what_cannot_be_compared_is_refused() -> None:
    truth, image = pair((24, 24))
    with pytest.raises(ValueError, match="constant"):
        ms_ssim(np.ones_like(truth), image)
    with pytest.raises(ValueError, match="empty"):
        ms_ssim(truth, image, mask=np.zeros(truth.shape))
    with pytest.raises(ValueError, match="NaN"):
        ms_ssim(truth, np.full_like(truth, np.nan))
    odd, other = pair((45, 45))
    last = np.zeros(odd.shape)
    last[-1] = 1
    with pytest.raises(ValueError, match="last row"):
        ms_ssim(odd, other, mask=last)
