"""Slice-gap perception learns where a slice lies: on drawn heads of different subjects, fainter at low field."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from helpers.drawn_heads import SIDE, slices
from nnunet_uhf.networks.pta.matching import assignment, contrastive_loss, nearest, soft_targets
from nnunet_uhf.networks.pta.slice_encoder import SlicePerception

BATCH, STEPS = 32, 220
ENCODER = {"width": 32, "depth": 1, "heads": 2, "embedding": 16, "side": SIDE}


def true_places(stated: Tensor, covered: float, generator: torch.Generator) -> Tensor:
    """Where slices lie in the head whose scans cover a part of it, anywhere."""
    return (1 - covered) * torch.rand(len(stated), generator=generator) + covered * stated


@cache
def trained(covered: float) -> SlicePerception:
    """One encoder for both, trained on slices of equal stated place; low-field scans cover a part of the head each."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    network = SlicePerception(encoder=ENCODER)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 20) * (1 - step / STEPS)
        stated = (torch.randperm(BATCH, generator=generator) + torch.rand(BATCH, generator=generator)) / BATCH
        source = slices(true_places(stated, covered, generator), low_field=True, generator=generator)
        target = slices(stated, low_field=False, generator=generator)
        loss = contrastive_loss(*network(source, target), soft_targets(stated, stated))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def embedded(covered: float, count: int = 320) -> dict[str, Tensor]:
    """New slices: stated and true places of low-field ones, places of high-field ones, embeddings of both."""
    network, generator = trained(covered), torch.Generator().manual_seed(2)
    stated, target = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    source = true_places(stated, covered, generator)
    with torch.no_grad():
        low = network.source(slices(source, low_field=True, generator=generator))
        high = network.target(slices(target, low_field=False, generator=generator))
    return {"stated": stated, "source": source, "target": target, "low": low, "high": high}


def bank_error(found: dict[str, Tensor]) -> float:
    return float((found["target"][nearest(found["low"], found["high"])] - found["source"]).abs().mean())


def test_the_nearest_of_all_slices_lies_at_nearly_the_same_place() -> None:
    assert bank_error(embedded(1.0)) < 0.08  # chance is 0.33


def test_the_best_assignment_of_a_batch_comes_near_to_the_best_possible() -> None:
    found = embedded(1.0)
    errors: dict[str, list[Tensor]] = {"found": [], "best": [], "random": []}
    for part in torch.arange(320).split(16):
        source, target = found["source"][part], found["target"][part]
        distance = (source[:, None] - target[None]).abs()
        order = assignment(found["low"][part], found["high"][part])
        rows, columns = linear_sum_assignment(distance.numpy())
        for name, values in (
            ("found", (target[order] - source).abs()),
            ("best", distance[rows, columns]),
            ("random", distance),
        ):
            errors[name].append(values.mean())
    mean = {name: float(torch.stack(values).mean()) for name, values in errors.items()}
    assert (mean["found"] - mean["best"]) / (mean["random"] - mean["best"]) < 0.25


def test_scans_of_a_part_of_the_head_find_their_place_better_than_by_what_is_stated() -> None:
    found = embedded(0.6)
    by_statement = float((found["stated"] - found["source"]).abs().mean())
    assert bank_error(found) < 0.5 * by_statement


@pytest.mark.parametrize("place", [0.15, 0.6])
def test_drawn_heads_show_where_they_were_cut(place: float) -> None:
    """The drawing is no trick: neighbouring slices of one subject are alike, distant ones are not."""
    generator = torch.Generator().manual_seed(0)
    one, near, far = (
        slices(torch.full((8,), value), low_field=False, generator=generator) for value in (place, place + 0.02, 0.95)
    )
    assert float((one - near).abs().mean()) < float((one - far).abs().mean())
