from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.known_keepers import save, scan
from helpers.support import tiny_keeper
from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.changes import change_map, histogram_matched
from nnunet_uhf.inference.enhance import enhance

BRAIN = np.zeros((6, 48, 48), bool)
BRAIN[:, 8:40, 8:40] = True


def volume(seed: int = 0) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).standard_normal((6, 48, 48)), (1, 2, 2)).astype(np.float32)


def test_matching_histograms_undoes_any_rising_map_and_leaves_the_outside() -> None:
    image = volume()
    reference = np.exp(image[BRAIN])
    matched = histogram_matched(image, BRAIN, reference)
    np.testing.assert_allclose(matched[BRAIN], np.exp(image[BRAIN]), rtol=0.05, atol=0.01)
    assert np.array_equal(matched[~BRAIN], image[~BRAIN])


def test_a_change_of_brightness_is_no_change_and_an_addition_is_where_it_is() -> None:
    image = np.where(BRAIN, 3 + volume(), 0).astype(np.float32)
    brighter = np.where(BRAIN, image**3, 0).astype(np.float32)
    assert float(change_map(brighter, image).max()) < 0.05 * float(brighter.max())
    added = brighter.copy()
    added[2, 20:24, 20:24] += 30
    changed = change_map(added, image)
    assert changed[2, 20:24, 20:24].min() > 15
    rest = BRAIN.copy()
    rest[2, 20:24, 20:24] = False
    assert float(np.median(changed[rest])) < 1
    assert not changed[~BRAIN].any()
    assert not change_map(np.zeros_like(image), image).any()


def test_changes_are_written_beside_the_image_and_told_of_in_the_note(tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii.gz", scan(0))
    keeper = tiny_keeper(tmp_path, 2)
    (target,) = enhance(source, tmp_path / "out" / "a.nii.gz", keeper, device="cpu", progress=False, changes=True)
    changed, image, given = (
        nibabel.load(path).get_fdata(dtype=np.float32)
        for path in (target.with_name("a_changes.nii.gz"), target, source)
    )
    np.testing.assert_allclose(changed, change_map(image, given), rtol=1e-4, atol=1e-3)
    assert json.loads(target.with_name("a.json").read_text())["changes"]["file"] == "a_changes.nii.gz"


def test_the_changes_of_one_scan_are_not_the_image_of_another(tmp_path: Path) -> None:
    for name in ("a", "a_changes"):
        path = tmp_path / "in" / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        save(path, scan(0))
    with pytest.raises(UHFError, match="rename its input"):
        enhance(tmp_path / "in", tmp_path / "out", tiny_keeper(tmp_path, 2), device="cpu", changes=True)
    assert not (tmp_path / "out").exists()
