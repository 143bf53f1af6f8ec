"""What runs otherwise on a graphics card gives the same numbers; tried here on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.networks import card
from nnunet_uhf.networks.blocks import convolution, normalised, pointwise
from nnunet_uhf.networks.card import LargeConv3d, channel_product, folded_weight, instance_norm, sum_of_outer_products
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper


def value_and_gradients(run: object, *inputs: Tensor) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    output = run(*leaves)  # type: ignore[operator]
    (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum().backward()
    return [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("size", [(6, 10), (4, 6, 10)])
def test_the_shared_normalisation_is_torchs_with_its_gradient(size: tuple[int, ...]) -> None:
    x = 3 * torch.randn(2, 3, *size) + 5
    for own, torchs in zip(value_and_gradients(instance_norm, x), value_and_gradients(F.instance_norm, x), strict=True):
        torch.testing.assert_close(own, torchs, atol=1e-5, rtol=1e-5)
    assert torch.autograd.gradcheck(instance_norm, (x[:1].double().requires_grad_(),))


def test_half_precision_maps_stay_in_half_precision_and_are_summed_in_single() -> None:
    x = (torch.randn(1, 2, 64, 64) + 100).half()
    assert instance_norm(x).dtype == torch.float16
    torch.testing.assert_close(instance_norm(x).float(), F.instance_norm(x.float()), atol=2e-2, rtol=2e-3)


@pytest.mark.parametrize("voxels", [64, 96, 7])
def test_the_channel_product_is_a_1x1_convolution_with_its_gradients(voxels: int) -> None:
    weight, flat, onto = torch.randn(4, 3), torch.randn(2, 3, voxels), torch.randn(2, 4, voxels)
    own = value_and_gradients(channel_product, weight, flat, onto)
    expected = value_and_gradients(lambda w, f, o: torch.baddbmm(o, w.expand(2, -1, -1), f), weight, flat, onto)
    for one, other in zip(own, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)
    left, right = torch.randn(2, 4, voxels), torch.randn(2, 3, voxels)
    summed = torch.einsum("bon,bcn->oc", left, right)
    torch.testing.assert_close(sum_of_outer_products(left, right), summed, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_of_the_folded_map_is_the_convolution(kernel: int, bias: bool) -> None:
    layer = LargeConv3d(3, 5, kernel, padding=kernel // 2, bias=bias)
    x = torch.randn(2, 3, 8, 12, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer.on_folded(x), layer(x), atol=1e-5, rtol=1e-5)
    assert folded_weight(layer.weight).shape[:2] == (40, 24)


def test_large_maps_on_a_card_take_those_ways_and_nothing_on_a_cpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = torch.empty(1, 1, 2, 2**8, 2**8, device="meta"), torch.empty(1, 1, 8, 8, 8, device="meta")
    assert card.on_card(large)
    assert not card.on_card(small)
    assert not card.on_card(torch.empty(1, 1, 1).expand(1, 1, 2**18))


@pytest.mark.parametrize("compute", ["keeper", "blocks"])
def test_networks_give_the_same_numbers_by_those_ways(monkeypatch: pytest.MonkeyPatch, compute: str) -> None:
    torch.manual_seed(0)
    network: nn.Module = (
        KnowledgeKeeper(dim=3, base_features=4).eval()
        if compute == "keeper"
        else nn.Sequential(convolution(3, 1, 4, 3), *normalised(3, 4), pointwise(3, 4, 8, bias=True))
    )
    x = torch.randn(1, 1, 16, 16, 32)
    usual = value_and_gradients(lambda x: _joined(network(x)), x)
    with torch.no_grad():
        usual.append(_joined(network(x)))
    for module in ("blocks", "card"):
        monkeypatch.setattr(f"nnunet_uhf.networks.{module}.on_card", lambda _: True)
    other = value_and_gradients(lambda x: _joined(network(x)), x)
    with torch.no_grad():
        other.append(_joined(network(x)))
    for one, same in zip(usual, other, strict=True):
        torch.testing.assert_close(one, same, atol=2e-4, rtol=1e-3)


def _joined(output: Tensor | list[Tensor]) -> Tensor:
    return output if isinstance(output, Tensor) else torch.cat([one.flatten() for one in output])
