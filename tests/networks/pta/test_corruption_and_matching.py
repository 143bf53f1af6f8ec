"""Corruption of blocks, and which slices belong together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunet_uhf.networks.pta.corruption import block_side, corrupted
from nnunet_uhf.networks.pta.matching import assignment, contrastive_loss, nearest, soft_targets


def test_a_fifth_of_the_blocks_is_taken_out_and_the_others_are_turned_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(40, 1, 122, 125, generator=generator)
    broken, filled = corrupted(image, generator=generator)
    assert block_side(120, 120) == 5
    inner = filled[..., :120, :125]
    assert float(inner.float().mean()) == pytest.approx(0.2, abs=0.01)
    assert bool((broken[filled] == -1).all())
    assert torch.equal(broken[..., 120:, :], image[..., 120:, :])
    blocks = image[..., :120, :].unfold(2, 5, 5).unfold(3, 5, 5)
    after = broken[..., :120, :].unfold(2, 5, 5).unfold(3, 5, 5)
    kept = ~filled[..., :120, :].unfold(2, 5, 5).unfold(3, 5, 5).flatten(-2).any(-1)
    shares = [
        float((after == torch.rot90(blocks, count, (4, 5))).flatten(-2).all(-1)[kept].float().mean())
        for count in range(4)
    ]
    assert shares == pytest.approx([0.25] * 4, abs=0.02)


def test_a_corruption_of_nothing_is_the_image_itself() -> None:
    image = torch.rand(2, 1, 50, 41)
    same, filled = corrupted(image, masked=0, turned=False)
    assert torch.equal(same, image)
    assert not filled.any()
    tiny = torch.rand(1, 1, 3, 40)
    assert torch.equal(corrupted(tiny)[0], tiny)


def test_soft_targets_are_one_hot_as_the_tolerance_vanishes() -> None:
    positions = torch.tensor([0.1, 0.5, 0.9])
    assert torch.allclose(soft_targets(positions, positions, tolerance=1e-3), torch.eye(3))
    soft = soft_targets(positions, torch.tensor([0.1, 0.15, 0.9]))
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(3))
    assert float(soft[0, 1] / soft[0, 0]) == pytest.approx(torch.exp(torch.tensor(-0.5)).item())


def test_the_loss_is_least_where_similarities_are_the_targets() -> None:
    embedded = nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    wanted, scale = torch.eye(4), torch.tensor(50.0)
    right = contrastive_loss(embedded, embedded, scale, wanted)
    assert float(right) < 0.01 < float(contrastive_loss(embedded, embedded[[1, 0, 3, 2]], scale, wanted))


def test_hungarian_matching_finds_the_permutation_and_the_bank_the_nearest_allowed() -> None:
    generator = torch.Generator().manual_seed(0)
    embedded = nn.functional.normalize(torch.randn(6, 16, generator=generator), dim=1)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    shuffled = torch.empty_like(embedded)
    shuffled[order] = embedded
    assert torch.equal(assignment(embedded, shuffled), order)
    assert torch.equal(nearest(embedded, shuffled, rows=4), order)
    forbidden = torch.zeros(6, 6, dtype=torch.bool)
    forbidden[0, 3] = True
    assert int(nearest(embedded, shuffled, forbidden=forbidden)[0]) != 3
