"""Space to depth and back."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nnunet_uhf.networks.folding import fold, spread, unfold


@pytest.mark.parametrize(("size", "step"), [((6, 8), (2, 2)), ((4, 6, 8), (2, 2, 2)), ((5, 6, 8), (1, 2, 2))])
def test_unfolding_gives_back_what_was_folded(size: tuple[int, ...], step: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *size)
    folded = fold(x, step)
    assert folded.shape == (2, 3 * torch.tensor(step).prod(), *(n // k for n, k in zip(size, step, strict=True)))
    assert torch.equal(unfold(folded, step), x)
    assert torch.equal(spread(folded, step).reshape(x.shape), x)


def test_folding_in_2d_is_torchs_pixel_unshuffle() -> None:
    x = torch.randn(2, 3, 6, 8)
    assert torch.equal(fold(x, (2, 2)), F.pixel_unshuffle(x, 2))
    assert torch.equal(unfold(fold(x, (2, 2)), (2, 2)), F.pixel_shuffle(fold(x, (2, 2)), 2))


def test_odd_sizes_repeat_their_last_plane() -> None:
    x = torch.randn(1, 1, 5, 4)
    assert torch.equal(unfold(fold(x, (2, 2)), (2, 2)), torch.cat((x, x[:, :, -1:]), dim=2))
