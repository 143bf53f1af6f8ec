from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nnunet_uhf.routes.modalities import ModalityTask
from nnunet_uhf.routes.table import read_task_of
from nnunet_uhf.trainers.unicoal.drawing import Draw, draw_question

CHANNELS = {"0": "T1w", "1": "T2w", "2": "FLAIR"}


def made_task(**entries: Any) -> ModalityTask:
    uhf: Mapping[str, Any] = {"modalities": {"T1w": 3.0, "T2w": 3.0, "FLAIR": 1.5}, **entries}
    return read_task_of(ModalityTask, {"channel_names": CHANNELS, "uhf": uhf}, dataset="Dataset001_Made")


def drawn(task: ModalityTask, missing: tuple[str, ...] = (), *, size: int = 60, count: int = 300) -> list[Draw]:
    rng = np.random.default_rng(0)
    draws = [draw_question(task, missing, size, rng) for _ in range(count)]
    assert None not in draws
    return [draw for draw in draws if draw is not None]


def test_every_task_is_drawn_and_none_asks_for_what_is_given() -> None:
    draws = drawn(made_task())
    kinds = {(draw.sources[0] == draw.target, draw.ratio == 1) for draw in draws}
    assert kinds == {(True, False), (False, True), (False, False)}
    assert {draw.target for draw in draws} == {"T1w", "T2w", "FLAIR"}
    assert all(1 <= draw.ratio <= 8 and 0 <= draw.gap <= 0.34 for draw in draws)
    assert len({round(draw.ratio, 6) for draw in draws}) > 100


def test_a_missing_modality_is_neither_given_nor_asked_for() -> None:
    assert all("T2w" not in (draw.target, *draw.sources) for draw in drawn(made_task(), ("T2w",)))


def test_a_case_of_one_modality_is_asked_for_between_its_slices() -> None:
    draws = drawn(made_task(), ("T2w", "FLAIR"))
    assert all(draw.target == "T1w" and draw.ratio > 1 for draw in draws)


def test_a_case_without_any_question_has_none() -> None:
    task = made_task(thickness={"ratio": [1, 1]})
    assert draw_question(task, ("T2w", "FLAIR"), 60, np.random.default_rng(0)) is None
    assert draw_question(made_task(), ("T2w", "FLAIR"), 2, np.random.default_rng(0)) is None


def test_slices_lie_at_real_places_around_the_target() -> None:
    draw = Draw(target="T1w", sources=("T1w",), ratio=2.5, gap=0.2, delta=0.4)
    positions, delta = draw.positions(10)
    assert delta == 0.4
    assert positions == pytest.approx([6.5, 9.0, 11.5, 14.0])


def test_slices_that_are_really_thick_lie_on_their_own_grid() -> None:
    task = made_task(thick={"T2w": 4}, sources=["T2w"])
    draws = drawn(task)
    assert all(draw.ratio == 4 and draw.delta is None and draw.target != "T2w" for draw in draws)
    assert draws[0].positions(10) == ([4, 8, 12, 16], 0.5)


def test_without_a_profile_thin_slices_of_whole_ratios_are_taken_and_none_is_the_answer() -> None:
    draws = [draw for draw in drawn(made_task(extensions={"profile": False})) if draw.ratio > 1]
    assert all(draw.ratio == round(draw.ratio) and draw.gap == 0 for draw in draws)
    assert all(draw.delta for draw in draws if draw.target in draw.sources)


def test_several_sources_are_random_subsets_in_their_order() -> None:
    draws = drawn(made_task(extensions={"several_sources": True}))
    assert {len(draw.sources) for draw in draws} == {1, 2, 3}
    order = ["T1w", "T2w", "FLAIR"]
    assert all(list(draw.sources) == sorted(draw.sources, key=order.index) for draw in draws)
