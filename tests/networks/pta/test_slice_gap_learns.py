"""Slice-gap perception learns where a slice lies: on drawn heads of different subjects, fainter at low field."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from nnunet_uhf.networks.pta.matching import assignment, contrastive_loss, nearest, soft_targets
from nnunet_uhf.networks.pta.slice_encoder import SlicePerception

SIDE, BATCH, STEPS = 32, 32, 220
ENCODER = {"width": 32, "depth": 1, "heads": 2, "embedding": 16, "side": SIDE}


def slices(places: Tensor, *, low_field: bool, generator: torch.Generator) -> Tensor:
    """A slice `(B, 1, 32, 32)` of a head of its own at each place from 0 to 1, from -1 to 1."""
    count = len(places)

    def own(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator))[:, None, None]

    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    y, x, z = y[None] + own(-0.05, 0.05), x[None] + own(-0.05, 0.05), places[:, None, None]
    outline = 0.35 + 0.55 * (1 - (2 * z - 0.8) ** 2).clamp_min(0).sqrt()  # narrow below and above
    head = (x / own(0.8, 0.9)) ** 2 + y**2 < outline**2
    fluid = ((x.abs() - 0.12) ** 2 + (y / 2) ** 2) < own(0.8, 1.2) * 0.06 * torch.exp(-(((z - 0.6) / 0.12) ** 2))
    eyes = ((x.abs() - 0.35) ** 2 + (y + 0.5) ** 2) < own(0.8, 1.2) * 0.04 * torch.exp(-(((z - 0.15) / 0.1) ** 2))
    image = torch.where(fluid | eyes, -0.2, 0.6)
    contrast, noise = (0.8, 0.2) if low_field else (1.0, 0.1)
    image = torch.where(head, contrast * image + noise * torch.randn(image.shape, generator=generator), -1.0)
    return image[:, None].clamp(-1, 1)


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
