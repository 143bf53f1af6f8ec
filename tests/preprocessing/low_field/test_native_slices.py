"""Sources that keep their thick slices: `PairSimulation` on the grid `native`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.tiny_data import make_channel, make_labels
from nnunet_uhf.preprocessing.low_field import LowFieldSimulator, PairSimulation, find_preset
from nnunet_uhf.preprocessing.low_field.presets import profile_for_ratio
from nnunet_uhf.preprocessing.low_field.slice_profile import take_slices

SHAPE = (46, 52, 50)  # no multiple of any ratio but 2
LABELS = make_labels(SHAPE, np.random.default_rng(0)).astype(np.int16)
RAW = make_channel(LABELS, "HF", np.random.default_rng(1))
INSIDE = RAW != 0


def native(ratio: int, axis: int, *, masked: bool = True, grid: str = "native", **changes: Any) -> PairSimulation:
    simulator = LowFieldSimulator(
        snr=find_preset("t1w_0.36T_probable").snr,
        profiles=(profile_for_ratio(ratio),),
        axes=(axis,),
        grid=grid,  # type: ignore[arg-type]
        **changes,
    )
    return PairSimulation(simulator=simulator, tissues={"csf": 1, "gm": 2, "wm": 3}, masked=masked)


def preprocessed(*, masked: bool = True) -> tuple[np.ndarray, np.ndarray]:
    counted = RAW[INSIDE] if masked else RAW
    image = (RAW - counted.mean()) / counted.std()
    if masked:
        image[~INSIDE] = 0
    return image.astype(np.float32), np.where(INSIDE, LABELS, np.int16(-1))


@pytest.mark.parametrize("ratio", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_case_has_one_slice_for_every_block_begun_and_a_target_of_all_voxels(ratio: int, axis: int) -> None:
    pairs = native(ratio, axis)
    image, labels = preprocessed()
    draw = pairs.simulator.draw(np.random.default_rng(2))
    source, target = pairs.of_case(image, labels, draw, pairs.measure(image, labels))
    assert source.shape[axis] == -(-SHAPE[axis] // ratio)
    assert target.shape == SHAPE
    assert np.array_equal(target[INSIDE], image[INSIDE])


def test_slice_k_is_the_blurred_anatomy_at_voxel_k_times_r() -> None:
    pairs = native(4, 1, noise_scale=(0.0, 0.0))
    image, labels = preprocessed()
    source, _ = pairs.of_case(
        image, labels, pairs.simulator.draw(np.random.default_rng(3)), pairs.measure(image, labels)
    )
    blurred = take_slices(RAW, profile_for_ratio(4), axis=1)
    for k in (3, 6, 9):
        inside = labels[:, 4 * k] != -1
        assert np.corrcoef(source[:, k][inside], blurred[:, k][inside])[0, 1] > 0.95
        assert (source[:, k][~inside] == 0).all()


def test_slices_and_their_spline_are_one_scan() -> None:
    """The same draw on both grids: at voxels k * r the regridded scan is the slice, up to the normalisation."""
    image, labels = preprocessed(masked=False)
    made = {}
    for grid in ("native", "regrid"):
        pairs = native(3, 2, masked=False, grid=grid)
        draw = pairs.simulator.draw(np.random.default_rng(4))
        made[grid], _ = pairs.of_patch(image[..., :48], labels[..., :48], draw, pairs.measure(image, labels))
    assert made["native"].shape[2] == 16
    sampled = made["regrid"][..., ::3]
    assert np.corrcoef(made["native"].ravel(), sampled.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize(
    ("masked", "changes", "tolerance"),
    [
        (True, {}, 0.03),
        (True, {"noise_mask": "brain", "fixed": "wm"}, 0.03),
        (False, {}, 0.03),
        (False, {"noise": "rician"}, 0.04),
    ],
)
def test_a_patch_is_normalised_as_the_whole_scan_of_thick_slices_would_be(
    masked: bool, changes: dict[str, Any], tolerance: float
) -> None:
    pairs = native(4, 1, masked=masked, noise_scale=(1.0, 4.0), **changes)
    image, labels = preprocessed(masked=masked)
    case, rng = pairs.measure(image, labels), np.random.default_rng(5)
    for _ in range(6):
        source, target = pairs.of_patch(image, labels, pairs.simulator.draw(rng), case)
        # a skull-stripped scan is counted where it is not 0 itself
        inside = source != 0 if changes.get("noise_mask") == "brain" else labels[:, ::4] != -1
        counted = source[inside] if masked else source
        assert counted.mean() == pytest.approx(0, abs=tolerance)
        assert counted.std() == pytest.approx(1, abs=tolerance)
        assert target.shape == image.shape


def test_a_patch_of_two_dimensions_has_slices_along_its_own_axis() -> None:
    pairs = native(4, 2, noise_scale=(0.0, 0.0))
    image, labels = preprocessed()
    case, draw = pairs.measure(image, labels), pairs.simulator.draw(np.random.default_rng(6))
    volume, _ = pairs.of_patch(image, labels, draw, case)
    alone, target = pairs.of_patch(image[20], labels[20], draw, case)
    assert alone.shape == (SHAPE[1], 13)
    np.testing.assert_allclose(alone, volume[20], atol=1e-4)
    assert np.array_equal(target[labels[20] != -1], image[20][labels[20] != -1])


def test_a_skull_stripped_scan_is_0_where_its_slices_show_no_brain_and_its_target_is_dark_there() -> None:
    """As nnU-Net would preprocess a file of it: z-scored over its own nonzero voxels, not over the target's."""
    pairs = native(4, 1, noise_mask="brain")
    image, labels = preprocessed()
    case, rng = pairs.measure(image, labels), np.random.default_rng(7)
    source, target = pairs.of_case(image, labels, pairs.simulator.draw(rng), case)
    brain = take_slices((LABELS > 0).astype(np.float32), profile_for_ratio(4), axis=1) >= 0.5
    assert np.array_equal(source[:, : brain.shape[1]] != 0, brain)
    assert source[source != 0].mean() == pytest.approx(0, abs=1e-4)
    assert source[source != 0].std() == pytest.approx(1, abs=1e-4)
    assert (target[~INSIDE] == np.float32(case.dark)).all()
    assert case.dark < -1


def test_the_spline_for_comparison_goes_through_the_slices() -> None:
    pairs = native(3, 0, noise_mask="brain")
    image, labels = preprocessed()
    case, draw = pairs.measure(image, labels), pairs.simulator.draw(np.random.default_rng(8))
    source, target = pairs.of_case(image, labels, draw, case)
    spline = pairs.interpolated(image, labels, draw, case)
    assert spline.shape == target.shape
    inside = source != 0
    assert np.corrcoef(spline[::3][inside], source[inside])[0, 1] > 0.999999
    assert np.abs(spline[::3][~inside]).max() < 1e-3
