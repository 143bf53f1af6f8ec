"""Nyul's standard intensity scale: the maths, folders of files, and the errors of users."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.low_field import simulated
from helpers.tiny_data import write_image
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.normalise import (
    PERCENTILES,
    landmarks_of,
    learn_scale,
    normalise_folder,
    read_landmarks,
    to_scale,
)

AFFINE = np.diag([-1.0, 1.1, 2.0, 1.0])


def tissue(seed: int, *, gain: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Brain of three tissues with a rim of zeros; gain and offset are those of a scanner."""
    rng = np.random.default_rng(seed)
    values = rng.normal(rng.choice([40.0, 90.0, 130.0], (12, 13, 14)), 6).clip(1)
    image = np.zeros((16, 17, 18))
    image[2:14, 2:15, 2:16] = gain * values + offset
    return image.astype(np.float32)


def save(folder: Path, images: dict[str, np.ndarray]) -> Path:
    for name, image in images.items():
        write_image(folder / f"{name}.nii.gz", image, AFFINE)
    return folder


def test_the_scale_starts_at_1_ends_at_100_and_does_not_depend_on_gain_and_offset() -> None:
    voxels = tissue(0)[tissue(0) > 0]
    scale = learn_scale([landmarks_of(voxels)])
    assert (scale[0], scale[-1]) == pytest.approx((1, 100))
    assert len(scale) == len(PERCENTILES) == 11
    np.testing.assert_allclose(learn_scale([landmarks_of(7.5 * voxels + 300)]), scale, atol=1e-3)


def test_the_standard_scale_is_the_mean_of_the_scans() -> None:
    marks = [landmarks_of(np.random.default_rng(seed).gamma(2 + seed, size=500)) for seed in range(3)]
    expected = np.mean([learn_scale([one]) for one in marks], axis=0)
    np.testing.assert_allclose(learn_scale(marks), expected)


def test_landmarks_land_on_the_scale_and_the_order_of_intensities_stays() -> None:
    voxels = tissue(1)[tissue(1) > 0]
    marks = landmarks_of(voxels)
    scale = learn_scale([marks, landmarks_of(tissue(2)[tissue(2) > 0] ** 2)])
    np.testing.assert_allclose(to_scale(marks, marks, scale), scale, rtol=1e-5)
    inside = np.sort(voxels)
    assert (np.diff(to_scale(inside, marks, scale)) >= 0).all()
    assert to_scale(marks[-1:] + 50, marks, scale)[0] > 100
    assert to_scale(marks[:1] - 50, marks, scale)[0] < 1


def test_scans_of_different_gain_come_out_alike_and_zeros_stay(tmp_path: Path) -> None:
    images = {"a": tissue(3), "b": tissue(3, gain=4.0, offset=20.0), "c": tissue(4)}
    record = normalise_folder(save(tmp_path / "in", images), tmp_path / "out")
    made = {name: nibabel.load(tmp_path / "out" / f"{name}.nii.gz") for name in images}
    np.testing.assert_allclose(made["a"].get_fdata(), made["b"].get_fdata(), atol=0.01)
    np.testing.assert_allclose(made["a"].affine, AFFINE)
    assert (made["a"].get_fdata()[images["a"] == 0] == 0).all()
    content = json.loads(record.read_text())
    assert content["learnt_on"] == ["a", "b", "c"]
    voxels = made["c"].get_fdata()[images["c"] > 0]
    np.testing.assert_allclose(np.percentile(voxels, PERCENTILES), content["scale"], atol=0.5)


def test_a_scale_learnt_on_training_scans_is_applied_to_others(tmp_path: Path) -> None:
    learnt = normalise_folder(save(tmp_path / "train", {"a": tissue(5), "b": tissue(6)}), tmp_path / "one")
    other = save(tmp_path / "test", {"c": tissue(7, gain=0.3)})
    record = normalise_folder(other, tmp_path / "two", landmarks=learnt)
    np.testing.assert_array_equal(read_landmarks(record), read_landmarks(learnt))
    values = nibabel.load(tmp_path / "two" / "c.nii.gz").get_fdata()
    np.testing.assert_allclose(np.percentile(values[values != 0], PERCENTILES), read_landmarks(learnt), atol=0.5)


def test_masks_say_where_the_brain_is(tmp_path: Path) -> None:
    image = tissue(8) + 3  # no zeros
    mask = (tissue(8) > 0).astype(np.uint8)
    normalise_folder(save(tmp_path / "in", {"a": image}), tmp_path / "out", masks=save(tmp_path / "masks", {"a": mask}))
    values = nibabel.load(tmp_path / "out" / "a.nii.gz").get_fdata()
    assert (values[mask == 0] == 0).all()
    assert values[mask > 0].max() > 90


def constant(folder: Path) -> dict[str, Path]:
    return {"images": save(folder / "in", {"a": (tissue(9) > 0).astype(np.float32)})}


def empty(folder: Path) -> dict[str, Path]:
    return {"images": save(folder / "in", {"a": np.zeros((9, 9, 9), np.float32)})}


def unmasked(folder: Path) -> dict[str, Path]:
    return {"images": save(folder / "in", {"a": tissue(9)}), "masks": save(folder / "masks", {"b": tissue(9)})}


def other_grid(folder: Path) -> dict[str, Path]:
    return {"images": save(folder / "in", {"a": tissue(9)}), "masks": save(folder / "masks", {"a": tissue(9)[1:]})}


def bad_landmarks(folder: Path) -> dict[str, Path]:
    (folder / "landmarks.json").write_text(json.dumps({"percentiles": list(PERCENTILES), "scale": [1, 1, 100]}))
    return {"images": save(folder / "in", {"a": tissue(9)}), "landmarks": folder / "landmarks.json"}


def noisy_air(folder: Path) -> dict[str, Path]:
    return {"images": save(folder / "in", {"a": tissue(9) + np.float32(1)})}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (noisy_air, r"a\.nii\.gz is not skull-stripped.*--masks"),
        (constant, "same intensity"),
        (empty, "no voxel"),
        (unmasked, "no mask for case a"),
        (other_grid, "resample one"),
        (bad_landmarks, "no increasing scale"),
    ],
)
def test_what_cannot_be_normalised_is_told_in_one_line_and_nothing_is_written(
    prepare: Callable[[Path], dict[str, Path]], message: str, tmp_path: Path
) -> None:
    words = prepare(tmp_path)
    with pytest.raises(UHFError, match=message) as error:
        normalise_folder(words.pop("images"), tmp_path / "out", **words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_command_normalises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(tmp_path / "in", {"a": tissue(10)})
    with pytest.raises(SystemExit) as end:
        main(["normalise", "-i", str(folder), "-o", str(tmp_path / "out")])
    assert end.value.code == 0
    assert "landmarks.json" in capsys.readouterr().out


def test_heads_with_skull_are_refused_however_few_voxels_are_zero_and_masks_are_the_way_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.linspace(-1.3, 1.3, 40)] * 3, indexing="ij"))
    radius = np.sqrt((places**2).sum(0))
    head = np.zeros(radius.shape)
    for reach, value in ((0.9, 200), (0.8, 20), (0.7, 60), (0.5, 100)):  # fat, skull, grey, white matter
        head[radius < reach] = value
    head = np.round(head + np.abs(rng.normal(0, 20, radius.shape))).astype(np.int16)
    assert 0 < (head == 0).mean() < 0.1
    write_image(tmp_path / "in" / "a.nii.gz", head, AFFINE)
    write_image(tmp_path / "masks" / "a.nii.gz", (radius < 0.7).astype(np.uint8), AFFINE)
    with pytest.raises(UHFError, match=r"a\.nii\.gz is not skull-stripped and has no mask: give brain masks"):
        normalise_folder(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UHFError, match=r"a\.nii\.gz is not skull-stripped and has no mask: give brain masks"):
        simulated(tmp_path / "in", tmp_path / "out", None, tissues={"kind": "gmm"})
    normalise_folder(tmp_path / "in", tmp_path / "out", masks=tmp_path / "masks")
    simulated(tmp_path / "in", tmp_path / "low", None, tissues={"kind": "gmm", "masks": tmp_path / "masks"})


def test_the_original_s_histogram_is_of_voxels_above_the_mean_of_the_image(tmp_path: Path) -> None:
    images = {"a": tissue(0), "b": tissue(1, gain=3)}
    folder = save(tmp_path / "in", images)
    path = normalise_folder(folder, tmp_path / "out", foreground="above-mean")
    by_hand = learn_scale(landmarks_of(image[image > image.mean()]) for image in images.values())
    np.testing.assert_allclose(read_landmarks(path), by_hand, rtol=1e-6)
    assert json.loads(path.read_text())["voxels"] == "above-mean"
    assert not np.allclose(read_landmarks(normalise_folder(folder, tmp_path / "all")), by_hand, rtol=1e-3)
    written = nibabel.load(tmp_path / "out" / "a.nii.gz").get_fdata()
    assert ((written == 0) == (images["a"] == 0)).all()  # the whole brain is brought to the scale
