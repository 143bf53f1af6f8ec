"""Pairs, training and files of the package's keepers, on a made label map."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.support import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from make_keepers.batches import Draw, draw_batch, over_whole_image, read_draws
from make_keepers.maps import CLASSES, class_indices
from make_keepers.measure import Subject, images_of, linear_probes, maps_of, merged
from make_keepers.pairs import deep_grey, draw_source, plain_signals, simulate_pair
from make_keepers.shipping import KINDS, network_of, ship
from make_keepers.training import Lesson, Pupil, train

sys.path.pop(0)

from nnunet_uhf.keepers.file import read_keeper
from nnunet_uhf.preprocessing.synthesis import structure_signals, vary_structures

WHITE, CORTEX, FLUID, THALAMUS, SKULL = 2, 3, 24, 10, 514


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """A head: skull around fluid, cortex, white matter and thalamus."""
    axes = np.meshgrid(*(np.linspace(-1, 1, 48),) * 3, indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    found = np.zeros(radius.shape, np.int16)
    for limit, label in ((0.98, SKULL), (0.85, FLUID), (0.8, CORTEX), (0.6, WHITE), (0.25, THALAMUS)):
        found[radius < limit] = label
    return found


@pytest.fixture(scope="module")
def folder(labels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draws of four maps, one of them of a head."""
    place = tmp_path_factory.mktemp("pairs")
    for number in range(4):
        pair, structures, record = simulate_pair(labels, np.random.default_rng(number), whole_head=number == 3)
        np.save(place / f"{number}.npy", pair)
        np.save(place / f"{number}_labels.npy", structures)
        (place / f"{number}.json").write_text(json.dumps({"case": f"map{number}", **record}))
    return place


@pytest.fixture(scope="module")
def draws(folder: Path) -> list[Draw]:
    return read_draws(folder)


def values(draw: Draw, image: int, label: int) -> np.ndarray:
    inside = np.asarray(draw.structures) == CLASSES.index(label) + 1
    return np.asarray(draw.images[image], np.float32)[inside]


def test_the_target_has_the_order_of_t1w_images_with_deep_grey_between(draws: list[Draw]) -> None:
    for draw in draws:
        fluid, cortex, deep, white = (np.median(values(draw, 1, label)) for label in (FLUID, CORTEX, THALAMUS, WHITE))
        assert fluid < cortex < deep < white


def test_deep_grey_lies_between_at_every_field(labels: np.ndarray) -> None:
    anatomy = vary_structures(labels, np.random.default_rng(0), variation=0.0)
    rng = np.random.default_rng(1)
    for _ in range(20):
        sequence, field = draw_source(rng)
        fluid, grey, white = plain_signals(sequence, field)
        assert abs(fluid) < grey < white
        changed = deep_grey(anatomy, field, {THALAMUS: 0.5})
        found = structure_signals(changed.structures, sequence, field)
        signals = {one.label: value for one, value in zip(changed.structures, found, strict=True)}
        assert signals[CORTEX] < signals[THALAMUS] < signals[WHITE] * 1.05


def test_brains_are_normalised_inside_and_heads_as_a_whole(draws: list[Draw]) -> None:
    brain, head = draws[0], draws[3]
    inside = np.asarray(brain.structures) > 0
    for image in np.asarray(brain.images, np.float32):
        assert abs(image[inside].mean()) < 0.01
        assert abs(image[inside].std() - 1) < 0.01
        assert not image[~inside].any()
    assert abs(np.asarray(head.images[0], np.float32).mean()) < 0.01
    changed, air = over_whole_image(np.asarray(brain.images, np.float32), brain.record)
    assert abs(changed[0].mean()) < 0.02
    assert changed[1][~inside] == pytest.approx(air[1])


def test_batches_are_squares_of_any_side_and_their_parts_belong_together(draws: list[Draw]) -> None:
    batch = draw_batch(draws, np.random.default_rng(0), size=6, patch=(64, 64))
    assert batch.source.shape == batch.target.shape == (6, 1, 64, 64)
    assert batch.structures.shape == (6, 64, 64)
    white = batch.structures == CLASSES.index(WHITE) + 1
    cortex = batch.structures == CLASSES.index(CORTEX) + 1
    assert batch.target[:, 0][white].mean() > batch.target[:, 0][cortex].mean()


def test_a_stopped_training_goes_on_and_its_keeper_becomes_two_files(draws: list[Draw], tmp_path: Path) -> None:
    lesson = Lesson(dim=2, width=8, taught_by="both", steps=2, batch=2, patch=64)
    pupil = train(lesson, draws, draws[2:], tmp_path / "a", device=torch.device("cpu"))
    again = train(lesson, draws, draws[2:], tmp_path / "a", device=torch.device("cpu"))  # nothing is left to do
    for one, other in zip(pupil.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    for kind in KINDS:
        told = ship(pupil, lesson, draws, draws[2:], tmp_path, kind=kind)
        header = read_keeper(tmp_path / told["file"]).header
        assert header.use_mask_for_norm == (kind == "brain")
        assert header.simulation is not None
        assert header.simulation["made_from"] == "label maps"
        assert header.training_cases == ["map0", "map1", "map2", "map3"]
        assert told["image"] < 0.05  # half precision


@pytest.mark.parametrize("taught_by", ["image", "structures"])
def test_a_lesson_reaches_what_it_is_about_alone(draws: list[Draw], taught_by: str, tmp_path: Path) -> None:
    lesson = Lesson(dim=2, width=8, taught_by=taught_by, steps=1, batch=1, patch=64)
    torch.manual_seed(lesson.seed)
    before = Pupil(lesson)
    after = train(lesson, draws, draws, tmp_path, device=torch.device("cpu"))
    changed = {
        name
        for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(one, other)
    }
    assert any(name.startswith("keeper") for name in changed)
    assert any(name.startswith("decoder") for name in changed) == (taught_by == "image")
    assert any(name.startswith("structures") for name in changed) == (taught_by == "structures")


def test_a_training_that_may_take_no_longer_goes_on_from_its_checkpoint(
    draws: list[Draw], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("make_keepers.training.EVERY", 1)
    lesson = Lesson(dim=2, width=8, taught_by="both", steps=2, batch=1, patch=64)
    for steps in ([1], [1, 2]):
        train(lesson, draws, draws[2:3], tmp_path, device=torch.device("cpu"), seconds=0)
        assert [each["step"] for each in json.loads((tmp_path / "log.json").read_text())] == steps


def test_a_keeper_of_cubes_learns_from_every_map(draws: list[Draw]) -> None:
    pupil = Pupil(Lesson(dim=3, width=8, taught_by="both", steps=1, batch=1, patch=64))
    batch = draw_batch(draws, np.random.default_rng(0), size=1, patch=(64, 64, 64))
    assert batch.structures.shape == (1, 64, 64, 64)
    torch.stack(list(pupil.losses(batch).values())).sum().backward()
    assert all(float(head.weight.grad.abs().max()) > 0 for head in pupil.structures.heads)


@pytest.mark.parametrize("dim", [2, 3])
def test_image_and_maps_of_a_scan_lie_where_its_slices_are(dim: int) -> None:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (30, 32, 32)), indexing="ij")
    volume = np.where(sum(axis**2 for axis in axes) < 0.7, 2 + np.sin(4 * axes[0] + 3 * axes[1] + axes[2]), 0)
    chosen = [6, 12, 15]
    regions = np.where(volume[chosen] > 0, 1 + (volume[chosen] > 2), 0).astype(np.uint8)
    one = Subject(volume.astype(np.float32), chosen, volume[chosen], regions, regions)
    pupil = Pupil(Lesson(dim=dim, width=8, taught_by="both", steps=1, batch=1, patch=32))
    with torch.no_grad():  # its image is then the image that it is given
        pupil.decoder.output.weight[:, : pupil.decoder.width] = 0
        pupil.decoder.output.bias.zero_()
    network = network_of(pupil)
    assert np.corrcoef(images_of(network, one)[regions > 0], one.source[regions > 0])[0, 1] > 0.99
    maps = maps_of(network.keeper)(one)
    assert maps.shape == (*one.source.shape, sum(network.keeper.channels))
    folded = maps[..., 8 : 8 + 2**dim].mean(axis=-1)  # the finest map carries the image
    assert np.corrcoef(folded[regions > 0], one.source[regions > 0])[0, 1] > 0.99
    scores = linear_probes(maps_of(network.keeper), [one] * 6)
    assert len(scores["regions"]) == 1
    assert scores["regions"][0] > 0.8


def test_sides_and_numbers_of_the_maps_become_one_class() -> None:
    assert class_indices(np.array([[10, 49], [2, 41]], np.int16)).tolist() == [[7, 7], [1, 1]]
    assert class_indices(np.array([0, SKULL], np.int16)).tolist() == [0, 0]
    assert merged(np.array([1, 2, 11, 12, 19, 20, 21, 26, 27])).tolist() == [1, 1, 11, 11, 19, 20, 21, 26, 26]
