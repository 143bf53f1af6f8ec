from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.pair_samples import AFFINE, LOW_AFFINE, high_field, low_field, movement, point_errors_mm, subject
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.pairing.geometry import to_sitk
from nnunet_uhf.preprocessing.pairing.registration import motion, register


def images(labels: np.ndarray, truth: Any) -> tuple[Any, Any]:
    return to_sitk(high_field(labels), AFFINE), to_sitk(low_field(labels, truth), LOW_AFFINE)


@pytest.mark.parametrize(
    ("angles", "shift"),
    [((0.1, -0.15, 0.2), (9.0, -6.0, 5.0)), ((-0.3, 0.1, 0.0), (-25.0, 20.0, 12.0))],
)
def test_a_known_rotation_and_shift_are_found_within_a_quarter_of_a_voxel(angles: Any, shift: Any) -> None:
    labels, truth = subject(), movement(angles, shift)
    found = register(*images(labels, truth), kind="rigid")
    assert point_errors_mm(found, truth, labels).mean() < 1
    seen, true = motion(found, (0, 0, 0)), motion(truth, (0, 0, 0))
    assert abs(seen.rotation_deg - true.rotation_deg) < 1
    assert np.abs(np.subtract(seen.translation_mm, shift)).max() < 1
    np.testing.assert_allclose(seen.scales, 1, atol=1e-6)


def test_affine_registration_finds_a_known_stretch() -> None:
    labels = subject()
    truth = sitk.AffineTransform(3)
    truth.SetMatrix(np.diag([1.08, 0.95, 1.0]).ravel().tolist())
    truth.SetTranslation((4.0, -3.0, 6.0))
    found = register(*images(labels, truth), kind="affine")
    assert point_errors_mm(found, truth, labels).mean() < 2
    np.testing.assert_allclose(motion(found, (0, 0, 0)).scales, (1.08, 1.0, 0.95), atol=0.04)


def test_the_same_scans_and_seed_give_the_same_transform_to_a_thousandth_of_a_millimetre() -> None:
    pair = images(subject(), movement((0.1, 0.0, 0.1), (5.0, 0.0, 0.0)))
    first, second = (register(*pair, kind="rigid", seed=3).GetParameters() for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_motion_separates_turn_shift_and_stretch_at_a_point() -> None:
    transform = sitk.AffineTransform(3)
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    transform.SetMatrix((turn @ np.diag([1.2, 1.0, 0.9])).ravel().tolist())
    transform.SetCenter((10.0, 20.0, 30.0))
    transform.SetTranslation((3.0, 4.0, 0.0))
    seen = motion(transform, (10, 20, 30))
    assert seen.rotation_deg == pytest.approx(30)
    assert seen.shift_mm == pytest.approx(5)
    np.testing.assert_allclose(seen.scales, (1.2, 1.0, 0.9))


def test_a_stack_of_few_slices_is_refused_with_the_way_out() -> None:
    pair = images(subject(), movement((0, 0, 0), (0, 0, 0)))
    with pytest.raises(UHFError, match="use --slicewise"):
        register(pair[0], pair[1][:, :, 10:14], kind="rigid")
