"""The probe of frozen maps: the same voxels whatever the grid, the right answer where it is known, controls, files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage
from sklearn.linear_model import LogisticRegression

from helpers.support import tiny_keeper
from helpers.tiny_data import LABELS, make_labels
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.probe import classifier
from nnunet_uhf.evaluation.probe.classifier import DrawnVoxels, LinearProbe, draw_voxels
from nnunet_uhf.evaluation.probe.data import read_probe_data
from nnunet_uhf.evaluation.probe.readers import image_reader, network_reader, smoothed
from nnunet_uhf.evaluation.probe.report import as_json, as_table, notes
from nnunet_uhf.evaluation.probe.run import CONTROLS, Arm, probe, probe_arms
from nnunet_uhf.evaluation.probe.scores import slab_scores
from nnunet_uhf.inference.map_source import map_source
from nnunet_uhf.inference.preprocess import preprocess_image

CPU = torch.device("cpu")
NAME = "Dataset901_Probe"
SHAPE = (24, 26, 22)
BRIGHTNESS = np.array([0.0, 10.0, 20.0, 30.0])
"""Of background, CSF, GM, WM: what lies between two others on a line, no linear classifier finds by itself."""


def tilted() -> np.ndarray:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    turn = np.radians(11)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, 3] = (-20.0, 4.5, 7.0)
    return affine


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw dataset of five subjects whose brightness is a function of the label, stored in two orders."""
    folder = tmp_path_factory.mktemp("probe") / "nnUNet_raw"
    root = folder / NAME
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir(parents=True)
    for index in range(5):
        labels = make_labels(SHAPE, np.random.default_rng(index))
        image = BRIGHTNESS[labels].astype(np.float32)
        order = ornt_transform(io_orientation(tilted()), axcodes2ornt("RAS" if index % 2 else "LSA"))
        for part, array, name in (("imagesTr", image, f"s{index}_0000"), ("labelsTr", labels, f"s{index}")):
            nibabel.save(nibabel.Nifti1Image(array, tilted()).as_reoriented(order), root / part / f"{name}.nii.gz")
    content = {"channel_names": {"0": "LF"}, "labels": LABELS, "numTraining": 5, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def there(raw: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(raw))
    return raw / NAME


def as_stored(folder: Path, dim: int = 3) -> Path:
    """A keeper file that takes intensities as they are, in an order of its own."""
    seen = {"orientation": "PIR", "format_version": 4, "transpose_forward": (1, 0, 2)}
    return tiny_keeper(folder, dim, normalisation="NoNormalization", use_mask_for_norm=False, **seen)


def bumps(patch: torch.Tensor) -> list[torch.Tensor]:
    """A map by hand: how near the brightness is to each label's; beside it a coarse map that says nothing."""
    near = torch.cat([torch.relu(1 - (patch - value).abs() / 5) for value in BRIGHTNESS], dim=1)
    return [near, near[..., ::2, ::2][:, :1] * 0]


@pytest.mark.parametrize("dim", [2, 3])
def test_maps_are_read_at_the_voxels_of_the_labels(dim: int, there: Path, tmp_path: Path) -> None:
    source = map_source(as_stored(tmp_path, dim))
    for index in (0, 1):
        path = there / "imagesTr" / f"s{index}_0000.nii.gz"
        expected = nibabel.load(path).get_fdata()
        for reader in (
            image_reader(source, neighbourhood=False),
            network_reader(replace(source, maps=lambda patch: [patch]), CPU),
        ):
            maps = reader((path,))
            seen = np.zeros(expected.shape, bool)
            seen[maps.seen(expected.shape)] = True
            assert 0.4 < seen.mean() < 1
            assert not expected[~seen].any()  # what nnU-Net crops away is 0
            read = maps.at_voxels(np.flatnonzero(seen), expected.shape)
            np.testing.assert_allclose(read[:, 0], expected[seen], atol=1e-3)


def test_the_probe_finds_what_stands_in_the_maps_and_not_what_does_not(there: Path, tmp_path: Path) -> None:
    source = map_source(as_stored(tmp_path))
    arms = [
        Arm("by hand", None, (), replace(source, maps=bumps), network_reader(replace(source, maps=bumps), CPU)),
        Arm("constant", None, (), source, network_reader(replace(source, maps=lambda p: [p * 0]), CPU)),
        Arm("image", "image", ("by hand",), source, image_reader(source, neighbourhood=False)),
    ]
    result = probe_arms(arms, read_probe_data(901, labelled=2, tested=None, seed=0), seed=0)
    content = as_json(result)["arms"]
    assert content["by hand"]["mean"]["mean"] == pytest.approx(1.0)
    assert result.features == {"by hand": 5, "constant": 1, "image": 1}
    assert all(sum(score > 0 for score in scores.values()) <= 1 for scores in result.dice["constant"].values())
    gained = content["by hand"]["minus"]["constant"]
    assert gained["n"] == gained["wins"] == 3
    assert gained["difference"] == pytest.approx(1 - content["constant"]["mean"]["mean"])
    assert not content["image"]["minus"]


@pytest.mark.parametrize("dim", [2, 3])
def test_a_scan_is_labelled_as_its_voxels_one_by_one(dim: int, there: Path, tmp_path: Path) -> None:
    source = map_source(as_stored(tmp_path, dim))
    scan = (there / "imagesTr" / "s0_0000.nii.gz",)
    shape = nibabel.load(scan[0]).shape
    rng = np.random.default_rng(dim)
    for reader in (network_reader(source, CPU), image_reader(source, neighbourhood=True)):
        maps = reader(scan)
        count = sum(len(one) for one in maps.maps)
        for labels in (3, 2 * count):  # scores are taken before reading or behind it
            weights, bias = (rng.normal(size=size).astype(np.float32) for size in ((count, labels), labels))
            scores = torch.zeros(labels, *shape)
            for part, found in slab_scores(maps, torch.from_numpy(weights), torch.from_numpy(bias), shape):
                scores[(slice(None), *part)] = found
            seen = np.zeros(shape, bool)
            seen[maps.seen(shape)] = True
            expected = maps.at_voxels(np.flatnonzero(seen), shape) @ weights + bias
            np.testing.assert_allclose(scores[:, seen].T, expected, rtol=1e-4, atol=1e-4 * expected.std())
            probed = LinearProbe(np.arange(labels, dtype=np.int32), weights, bias, True).label(maps, shape)
            assert (probed[seen] == expected.argmax(axis=1)).mean() > 0.999
            assert not probed[~seen].any()


def test_a_smoothed_image_and_its_slope_are_scipys() -> None:
    image = np.random.default_rng(0).uniform(size=(2, 9, 31, 20)).astype(np.float32)
    for sigma in ((0.5, 1.0, 1.0), (4.0, 8.0, 8.0)):
        smooth, slope = smoothed(torch.from_numpy(image), sigma)
        for each, behind, length in zip(image, smooth, slope, strict=True):
            np.testing.assert_allclose(behind, ndimage.gaussian_filter(each, sigma), atol=1e-5)
            np.testing.assert_allclose(length, ndimage.gaussian_gradient_magnitude(each, sigma), atol=1e-5)


SLOW_ROUTE = {"keeper_3d": 20.637, "random": 52.709, "image": 76.309, "neighbourhood": 95.700}
"""Mean Dice in percent of noisy scans when every map was read at every voxel, until version 0.2.0."""


def test_the_answer_is_that_of_reading_every_voxel(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    for index, path in enumerate(sorted((tmp_path / "raw" / NAME / "imagesTr").iterdir())):
        image = nibabel.load(path)
        noise = np.random.default_rng(index).normal(0, 4, image.shape)
        nibabel.save(nibabel.Nifti1Image((image.get_fdata() + noise).astype(np.float32), image.affine), path)
    # with the one penalty that every classifier had then
    monkeypatch.setattr(classifier, "LogisticRegression", lambda C, **others: LogisticRegression(**others))  # noqa: ARG005
    result = probe([tiny_keeper(tmp_path, 3, seed=7)], 901, labelled=2, tested=3, seed=0)
    found = {name: 100 * arm["mean"]["mean"] for name, arm in as_json(result)["arms"].items()}
    assert found == pytest.approx(SLOW_ROUTE, abs=0.2)


def test_beside_the_image_maps_lose_nothing_that_filters_find(there: Path, tmp_path: Path) -> None:
    keeper = tiny_keeper(tmp_path, 3, seed=7)
    alone, beside = (
        as_json(probe([keeper], 901, labelled=2, tested=3, beside_image=flag))["arms"] for flag in (False, True)
    )
    for name in (keeper.stem, "random"):
        assert beside[name]["maps"] == alone[name]["maps"] + alone["neighbourhood"]["maps"]
        assert beside[name]["mean"]["mean"] > max(alone[name]["mean"]["mean"] + 0.2, 0.85)
    for name in ("image", "neighbourhood"):
        assert beside[name]["mean"] == alone[name]["mean"]


def test_a_keeper_of_random_weights_is_its_own_control(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = tiny_keeper(tmp_path, 3, seed=5, training_cases=["s0", "s1", "s2", "s3", "s4"])
    out = tmp_path / "out"
    arguments = ["-m", str(keeper), "random", "-d", "901", "--labelled", "3", "--seed", "5", "-o", str(out)]
    with pytest.raises(SystemExit) as left:
        main(["probe", *arguments, "-device", "cpu"])
    assert left.value.code == 0
    content = json.loads((out / "probe.json").read_text())
    assert not content["maps_of_networks_beside_the_neighbourhood"]
    name = keeper.stem
    assert list(content["arms"]) == [name, "random"]
    assert content["arms"][name]["minus"]["random"]["difference"] == 0
    assert content["arms"]["random"]["source"] == {"keeper": keeper.name, "drawn_by_seed": 5}
    assert content["arms"][name]["tested_subjects_in_its_training"] == content["tested"]
    assert len(content["labelled"]) == 3
    assert len(content["tested"]) == 2
    assert not set(content["labelled"]) & set(content["tested"])
    assert "was trained on 2 of the tested subjects" in capsys.readouterr().out
    lines = (out / "probe.csv").read_text().splitlines()
    assert lines[0] == "maps_of,subject,structure,dice"
    assert len(lines) == 1 + 2 * 2 * 3
    assert (out / "probe.png").read_bytes().startswith(b"\x89PNG")


def test_controls_and_prepared_scans_are_one_for_all_keepers_that_share_them(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []

    def noted(scan: tuple[Path, ...], *others: Any, **named: Any) -> Any:
        prepared.append(scan[0].name)
        return preprocess_image(scan, *others, **named)

    monkeypatch.setattr("nnunet_uhf.inference.map_source.preprocess_image", noted)
    first = tiny_keeper(tmp_path, 3, name="first.safetensors", seed=1)
    second = tiny_keeper(tmp_path, 3, name="second.safetensors", seed=2)
    slices = tiny_keeper(tmp_path, 2, name="slices.safetensors")
    result = probe([first, second, slices], 901, labelled=2, tested=2)
    assert [arm.name for arm in result.arms] == [
        *(path.stem for path in (first, second, slices)),
        "random",
        f"random ({slices.stem})",
        "image",
        f"image ({slices.stem})",
        "neighbourhood",
        f"neighbourhood ({slices.stem})",
    ]
    assert len(prepared) == 2 * len(set(prepared)) == 2 * 4  # in 3D and in slices
    assert [arm.of for arm in result.arms if arm.control == "image"] == [("first", "second"), ("slices",)]
    table = as_table(as_json(result))
    assert [column.header for column in table.columns[3:]] == [f"minus {name}" for name in CONTROLS]
    own = [list(column.cells) for column in table.columns[3:]]
    assert all(all(cells[:3]) and not any(cells[3:]) for cells in own)
    assert not notes(as_json(result)) or "stopped after" in notes(as_json(result))[0]


def test_voxels_of_rare_labels_are_all_drawn_and_weigh_less_than_their_number() -> None:
    labels = np.repeat(np.array([0, 1, 2], np.int32), [90_000, 900, 9])
    drawn = draw_voxels(labels, np.ones(len(labels), bool), np.random.default_rng(0))
    counts = [int((drawn.labels == value).sum()) for value in (0, 1, 2)]
    assert counts == [400, 200, 9]
    sums = [float(drawn.weights[drawn.labels == value].sum()) for value in (0, 1, 2)]
    np.testing.assert_allclose(sums, [300, 30, 3])


def test_copies_of_the_same_maps_change_no_label() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array([0, 1, 2], np.int32), 60)
    drawn = [DrawnVoxels(np.arange(180), labels, np.ones(180))]
    few = np.stack([labels == 1, labels == 2], axis=1) + rng.normal(0, 0.8, (180, 2)).astype(np.float32)
    many = np.tile(few, 50)
    one, other = LinearProbe.fit(few, drawn), LinearProbe.fit(many, drawn)
    scores = [each @ probed.weights + probed.bias for each, probed in ((few, one), (many, other))]
    np.testing.assert_allclose(*(each - each.mean(axis=1, keepdims=True) for each in scores), atol=0.1)
    assert one.converged
    assert other.converged


def told_of(models: Sequence[str | Path], **options: object) -> str:
    with pytest.raises(UHFError) as told:
        probe(models, 901, **options)  # type: ignore[arg-type]
    return str(told.value)


def test_what_cannot_be_probed_is_told(there: Path, tmp_path: Path) -> None:
    keeper = tiny_keeper(tmp_path, 2)
    assert "needs a keeper file or a model folder" in told_of(["random"])
    assert "name of its own" in told_of([keeper, keeper])
    assert "2 names were given for 1" in told_of([keeper], names=["a", "b"])
    assert "ask for fewer labelled ones" in told_of([keeper], labelled=4)


@pytest.mark.parametrize(
    ("part", "affine", "told"),
    [
        ("imagesTr/s0_0000", np.diag([60.0, 60.0, 60.0, 1.0]), "s0_0000.nii.gz"),
        ("labelsTr/s0", np.diag([1.5, 1.0, 1.0, 1.0]), "differ in voxel size"),
    ],
)
def test_an_image_that_can_be_none_is_refused_before_anything_is_computed(
    part: str, affine: np.ndarray, told: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setattr("nnunet_uhf.evaluation.probe.run.probe_arms", pytest.fail)
    path = tmp_path / "raw" / NAME / f"{part}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj), affine), path)
    assert told in told_of([tiny_keeper(tmp_path, 2)], labelled=2)
