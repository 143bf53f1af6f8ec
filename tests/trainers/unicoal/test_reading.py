from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

from nnunet_uhf.networks.unicoal.question import SLICES
from nnunet_uhf.preprocessing.low_field.slice_profile import SliceProfile, profile_weights, take_slices
from nnunet_uhf.routes.modalities import ModalityTask
from nnunet_uhf.routes.table import read_task_of
from nnunet_uhf.trainers.unicoal.batches import read_batch
from nnunet_uhf.trainers.unicoal.drawing import Draw
from nnunet_uhf.trainers.unicoal.reading import AskedCase, ReadingPlan, measure_ranges

SIZE = 64


def made_task(**entries: Any) -> ModalityTask:
    uhf = {"modalities": {"T1w": 3.0, "T2w": 3.0}, **entries}
    return read_task_of(
        ModalityTask, {"channel_names": {"0": "T1w", "1": "T2w"}, "uhf": uhf}, dataset="Dataset001_Made"
    )


def made_case(draw: Draw, task: ModalityTask | None = None) -> tuple[AskedCase, np.ndarray]:
    task = task or made_task()
    plan = ReadingPlan(masked={"T1w": True, "T2w": True}, transpose=[0, 1, 2], size=SIZE)
    rng = np.random.default_rng(0)
    data = rng.normal(0, 1, (2, 20, 24, 30)).astype(np.float32)
    labels = np.ones((1, 20, 24, 30), np.int16)
    labels[:, :, :3] = -1
    data[:, :, :3] = 0
    ranges = measure_ranges(task, plan, data, labels)
    case = AskedCase(task, plan, draw, ranges, data, labels, 2.0)
    scaled = [ranges.ranges[name].shifted(data[n], labels[0] >= 0) for n, name in enumerate(("T1w", "T2w"))]  # type: ignore[union-attr]
    return case, np.stack(scaled)


def cut(case: AskedCase, index: int, *, start: int = 0, size: int = 24) -> np.ndarray:
    return crop_and_pad_nd(case, [[index, index + 1], [start, start + size], [0, size]], 0)[:, 0]  # type: ignore[no-any-return]


def test_weights_at_whole_places_are_those_of_the_simulator() -> None:
    image = np.random.default_rng(0).normal(size=(24, 3, 3)).astype(np.float32)
    weights = profile_weights(24, [0, 4, 8, 12, 16, 20], thickness=3)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    wanted = take_slices(image, SliceProfile(thickness=3, gap=1), axis=0)
    np.testing.assert_allclose(np.tensordot(weights, image, axes=1), wanted, atol=1e-5)


def test_a_patch_holds_the_slices_around_the_target_under_their_profile() -> None:
    draw = Draw(target="T2w", sources=("T1w",), ratio=2.5, gap=0.2, delta=0.4)
    case, scaled = made_case(draw)
    patch = cut(case, 10)
    weights = profile_weights(20, [6.5, 9.0, 11.5, 14.0], thickness=2.0)
    wanted = np.tensordot(weights, scaled[0], axes=1)
    np.testing.assert_allclose(patch[:SLICES], wanted[:, :24, :24], atol=1e-4)
    np.testing.assert_allclose(patch[SLICES], scaled[1][10, :24, :24], atol=1e-6)
    assert not patch[:, :3].any()  # outside of the mask


def test_slices_beyond_the_volume_are_missing() -> None:
    draw = Draw(target="T1w", sources=("T1w",), ratio=4.0, gap=0.0, delta=0.5)
    case, _ = made_case(draw)
    patch = cut(case, 1)
    present = [bool(patch[n].any()) for n in range(SLICES)]
    assert present == [False, False, True, True]  # at -5, -1, 3, 7
    weights = read_batch(torch.zeros(1, 6, 24, 24), made_task().modalities, torch.zeros(1, 4), neighbours=False)
    assert weights.source.shape == (1, 4, 24, 24)
    assert case.asked is not None
    assert case.asked[-SLICES:].tolist()[:2] == [0, 0]


def test_the_place_of_a_patch_is_that_of_its_middle_wherever_it_is_cut() -> None:
    draw = Draw(target="T2w", sources=("T1w",), ratio=1.0, gap=0.0, delta=0.0)
    case, _ = made_case(draw)
    case.patch = [16, 16]
    for start in (-4, 0, 5, 12):
        cut(case, 10, start=start, size=16)
        assert case.asked is not None
        assert case.asked[0].item() == pytest.approx((start + 8 - 12) / SIZE)


def test_slices_that_are_really_thick_are_taken_as_they_are() -> None:
    task = made_task(thick={"T1w": 4})
    draw = Draw(target="T2w", sources=("T1w",), ratio=4.0, gap=0.0, delta=None)
    case, scaled = made_case(draw, task)
    patch = cut(case, 10)
    np.testing.assert_allclose(patch[:SLICES], scaled[0][[4, 8, 12, 16], :24, :24], atol=1e-6)


def test_a_neighbour_is_asked_for_at_its_own_place() -> None:
    task = made_task(extensions={"consistency": 10.0})
    draw = Draw(target="T1w", sources=("T1w",), ratio=4.0, gap=0.0, delta=0.25)
    case, scaled = made_case(draw, task)
    patch = cut(case, 10)
    np.testing.assert_allclose(patch[SLICES + 1], scaled[0][11, :24, :24], atol=1e-6)
    assert case.asked is not None
    row = torch.zeros(1, SLICES + 3, 24, 24)
    row[0, -1].view(-1)[: len(case.asked)] = case.asked
    sample = read_batch(row, task.modalities, torch.zeros(1, 4), neighbours=True)
    assert sample.neighbour is not None
    first, second = (q.condition[0, task.modalities.code] for q in (sample.question, sample.neighbour))
    assert (float(first), float(second)) == pytest.approx((-0.5, 0.0))  # 2 delta - 1


def test_a_constant_channel_is_missing() -> None:
    task, plan = made_task(), ReadingPlan(masked={"T1w": False, "T2w": False}, transpose=[0, 1, 2], size=SIZE)
    data = np.stack([np.random.default_rng(0).normal(size=(4, 8, 8)), np.zeros((4, 8, 8))])
    assert measure_ranges(task, plan, data, np.ones((1, 4, 8, 8))).missing == {"T2w"}
