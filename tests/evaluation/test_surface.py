"""Surface distances: those of the definition, found by looking at every pair of voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from nnunet_uhf.evaluation.surface import surface, surface_distances


def blob(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    rough = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return rough > rough.std() / 2


def brute_surface(mask: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour, along any axis of more than one voxel, that is not in the mask or not in the image."""
    kept = np.zeros(mask.shape, bool)
    for index in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                near = index.copy()
                near[axis] += step
                outside = not 0 <= near[axis] < mask.shape[axis]
                if mask.shape[axis] > 1 and (outside or not mask[tuple(near)]):
                    kept[tuple(index)] = True
    return kept


@pytest.mark.parametrize("shape", [(9, 11, 7), (12, 13, 1), (1, 12, 13)])
def test_distances_are_those_of_all_pairs_of_surface_voxels_in_mm(shape: tuple[int, ...]) -> None:
    spacing = np.array([0.8, 1.1, 2.6])
    true, predicted = blob(0, shape), blob(1, shape)
    assert np.array_equal(surface(true), brute_surface(true))
    points = [np.argwhere(brute_surface(mask)) * spacing for mask in (true, predicted)]
    table = cdist(*points)
    found = surface_distances(true, predicted, spacing)
    np.testing.assert_allclose(found.from_reference, table.min(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.from_prediction, table.min(axis=0), atol=1e-12)
    ends = [np.percentile(table.min(axis=axis), 95) for axis in (0, 1)]
    assert found.hd95 == pytest.approx(max(ends))
    near = (table.min(axis=0) <= 1.2).sum() + (table.min(axis=1) <= 1.2).sum()
    assert found.nsd(1.2) == pytest.approx(near / sum(table.shape))


def test_a_cube_moved_by_two_voxels_of_1_5_mm_is_3_mm_away() -> None:
    true, moved = np.zeros((2, 14, 12, 12), bool)
    true[2:8, 3:9, 3:9] = True
    moved[4:10, 3:9, 3:9] = True
    found = surface_distances(true, moved, (1.5, 1.0, 1.0))
    assert found.from_prediction.max() == found.from_reference.max() == 3.0
    assert found.hd95 == 3.0
    assert found.nsd(3.0) == 1.0
    assert found.nsd(0.0) < 0.8


def test_the_distance_of_a_mask_to_itself_is_zero_and_its_nsd_one() -> None:
    mask = blob(2, (8, 9, 10))
    found = surface_distances(mask, mask, (1, 1, 1))
    assert (found.hd95, found.nsd(0.0)) == (0.0, 1.0)


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        surface_distances(blob(0, (5, 5, 5)), np.zeros((5, 5, 5), bool), (1, 1, 1))


@pytest.mark.parametrize("spacing", [1.2, 0.7, 2.0])
def test_a_shift_of_one_voxel_is_within_a_tolerance_of_one_voxel_as_files_round_it(spacing: float) -> None:
    cube = np.zeros((10, 10, 10), bool)
    cube[3:7, 3:7, 3:7] = True
    stored = float(np.nextafter(np.float32(spacing), np.float32(3)))
    found = surface_distances(cube, np.roll(cube, 1, axis=0), (stored, stored, stored))
    assert found.nsd(spacing) == 1.0
    assert found.nsd(spacing - 0.01) < 1.0
