"""A 1x1 convolution as a matrix product is torch's 1x1 convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_uhf.networks.blocks import Pointwise2d, Pointwise3d, pointwise

CASES = pytest.mark.parametrize(
    ("dim", "bias", "added"), [(d, b, a) for d in (2, 3) for b in (True, False) for a in (True, False)]
)


def made(
    dim: int, *, bias: bool, dtype: torch.dtype = torch.float32
) -> tuple[Pointwise2d | Pointwise3d, Tensor, Tensor]:
    """A layer from 5 to 3 channels, an input, and a map of the output's shape."""
    size = (4, 5, 6)[:dim]
    layer = pointwise(dim, 5, 3, bias=bias).to(dtype)
    return layer, torch.randn(2, 5, *size, dtype=dtype), torch.randn(2, 3, *size, dtype=dtype)


def torchs(layer: Pointwise2d | Pointwise3d, x: Tensor) -> Tensor:
    """What torch's own convolution makes of the same weights."""
    convolve = F.conv2d if x.ndim == 4 else F.conv3d
    return convolve(x, layer.weight, layer.bias)


@CASES
def test_it_is_the_convolution_and_the_sum(dim: int, bias: bool, added: bool) -> None:
    layer, x, onto = made(dim, bias=bias)
    expected = torchs(layer, x) + (onto if added else 0)
    torch.testing.assert_close(layer(x, onto if added else None), expected)


@CASES
def test_gradients_are_those_of_the_convolution(dim: int, bias: bool, added: bool) -> None:
    layer, x, onto = made(dim, bias=bias, dtype=torch.float64)
    leaves = [x.requires_grad_(), onto.requires_grad_(), *layer.parameters()]
    weight = torch.randn_like(onto)
    ours = torch.autograd.grad((layer(x, onto if added else None) * weight).sum(), leaves, allow_unused=True)
    theirs = torch.autograd.grad(
        ((torchs(layer, x) + (onto if added else 0)) * weight).sum(), leaves, allow_unused=True
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dim", [2, 3])
def test_half_precision_stays_half_under_autocast(dim: int) -> None:
    layer, x, onto = made(dim, bias=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = layer(x.bfloat16(), onto.bfloat16())
    assert fused.dtype == torch.bfloat16
    torch.testing.assert_close(fused.float(), torchs(layer, x) + onto, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("dim", [2, 3])
def test_an_input_with_another_memory_layout_gives_the_same(dim: int) -> None:
    layer, x, onto = made(dim, bias=False)
    layout = torch.channels_last if dim == 2 else torch.channels_last_3d
    torch.testing.assert_close(layer(x.to(memory_format=layout), onto), layer(x, onto))


def test_weights_have_the_shape_of_the_convolution() -> None:
    assert pointwise(3, 5, 3).weight.shape == (3, 5, 1, 1, 1)
    assert pointwise(2, 5, 3, bias=True).state_dict().keys() == torch.nn.Conv2d(5, 3, 1).state_dict().keys()
