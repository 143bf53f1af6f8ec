"""The masks of an ensemble in one network."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from nnunet_uhf.networks.siqt.masksembles import MaskMaker, Masksembles, make_masks


@pytest.mark.parametrize("channels", [2, 4, 8, 10, 16, 64, 256])
@pytest.mark.parametrize(("masks", "scale"), [(16, 2.0), (4, 2.0), (4, 3.0), (2, 1.0)])
def test_every_mask_keeps_as_many_channels_and_every_channel_is_kept(channels: int, masks: int, scale: float) -> None:
    drawn = make_masks(channels, masks=masks, scale=scale, seed=1)
    assert drawn.shape == (masks, channels)
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    assert drawn.sum(dim=1).unique().numel() == 1
    assert drawn.any(dim=0).all()
    expected = channels / (scale * (1 - (1 - 1 / scale) ** masks))
    assert drawn.sum(dim=1)[0].item() == pytest.approx(expected, abs=0.5)


def test_two_masks_of_scale_2_share_half_of_their_channels() -> None:
    drawn = make_masks(256, masks=16, scale=2.0, seed=3)
    shared = [(one * other).sum().item() / 128 for one, other in combinations(drawn, 2)]
    assert sum(shared) / len(shared) == pytest.approx(0.5, abs=0.02)
    assert len({tuple(row.tolist()) for row in drawn}) == 16


def test_the_same_arguments_give_the_same_masks_and_another_seed_others() -> None:
    options = {"masks": 16, "scale": 2.0}
    first = make_masks(32, seed=5, **options)
    torch.manual_seed(99)
    assert torch.equal(first, make_masks(32, seed=5, **options))
    assert not torch.equal(first, make_masks(32, seed=6, **options))


@pytest.mark.parametrize(("masks", "scale", "channels"), [(1, 2.0, 8), (4, 0.5, 8), (4, 7.0, 8), (16, 6.0, 1)])
def test_masks_that_cannot_be_are_refused(masks: int, scale: float, channels: int) -> None:
    with pytest.raises(ValueError, match="mask"):
        make_masks(channels, masks=masks, scale=scale, seed=0)


def test_each_sample_gets_the_mask_it_asks_for_and_keeps_its_type() -> None:
    layer = Masksembles(8, masks=16, scale=2.0, seed=1)
    x = torch.randn(3, 8, 4, 5).half()
    masked = layer(x, torch.tensor([2, 0, 15]))
    assert masked.dtype == torch.float16
    for sample, member in enumerate((2, 0, 15)):
        assert torch.equal(masked[sample], x[sample] * layer.masks[member, :, None, None].half())
    assert list(layer.state_dict()) == ["masks"]
    assert not list(layer.parameters())


def test_layers_of_one_network_have_masks_of_their_own() -> None:
    make = MaskMaker(16, 2.0)
    one, other = make(16), make(16)
    assert one is not None
    assert other is not None
    assert not torch.equal(one.masks, other.masks)
    assert MaskMaker(None, 2.0)(16) is None
