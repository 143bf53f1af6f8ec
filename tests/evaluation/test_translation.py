"""What is said of a translated image without its truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nnunet_uhf.evaluation.translation import (
    local_correlation,
    mean_of,
    mean_shift,
    slice_roughness,
    tissue_contrast,
)


def volume(seed: int = 0) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).standard_normal((6, 48, 48)), (1, 2, 2))


BRAIN = np.zeros((6, 48, 48), bool)
BRAIN[:, 8:40, 8:40] = True


def test_a_moved_image_is_found_out_to_a_tenth_of_a_pixel() -> None:
    image = volume()
    assert mean_shift(image, image, np.ones_like(BRAIN)) == 0
    assert mean_shift(np.roll(image, 3, axis=2), image, np.ones_like(BRAIN)) == pytest.approx(3, abs=0.15)


def test_local_correlation_is_one_whatever_the_contrast_and_less_of_another_image() -> None:
    image = volume()
    assert local_correlation(5 - 3 * image, image, BRAIN) == pytest.approx(1)
    assert local_correlation(volume(1), image, BRAIN) < 0.5


def test_slices_that_do_not_fit_each_other_are_rough() -> None:
    image = volume()
    jumpy = image + np.random.default_rng(0).standard_normal((6, 1, 1))
    assert slice_roughness(jumpy, BRAIN) > 1.2 * slice_roughness(image, BRAIN)
    assert slice_roughness(7 * image + 3, BRAIN) == pytest.approx(slice_roughness(image, BRAIN))


def test_contrast_is_that_of_the_two_brighter_classes() -> None:
    random = np.random.default_rng(0)
    tissue = random.integers(0, 3, BRAIN.shape)
    means = {"clear": np.array([0.0, 10.0, 20.0]), "faint": np.array([0.0, 10.0, 14.0])}
    found = {
        name: tissue_contrast(mean[tissue] + random.standard_normal(tissue.shape), BRAIN)
        for name, mean in means.items()
    }
    assert found["clear"] == pytest.approx(10, rel=0.1)
    assert found["faint"] == pytest.approx(4, rel=0.15)


def test_means_are_of_what_all_cases_have() -> None:
    assert mean_of([{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"a": 2.0}
    assert mean_of([]) == {}
