"""The anisotropic U-Net as the frozen keeper of a guided network."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from helpers.network_contract import wake
from nnunet_uhf.networks.guided.network import UHFGuidedNet, build_guided_net
from nnunet_uhf.networks.guided.spec import GuidanceSpec, KeeperSpec
from nnunet_uhf.networks.siqt.unet import AnisotropicKeeper

CLASSES = 4


def make_backbone(dim: int) -> nn.Module:
    conv, norm = ((nn.Conv2d, nn.InstanceNorm2d), (nn.Conv3d, nn.InstanceNorm3d))[dim - 2]
    return PlainConvUNet(
        input_channels=2,
        n_stages=3,
        features_per_stage=[8, 16, 16],
        conv_op=conv,
        kernel_sizes=3,
        strides=[1, 2, 2],
        n_conv_per_stage=[1] * 3,
        num_classes=CLASSES,
        n_conv_per_stage_decoder=[1] * 2,
        conv_bias=True,
        norm_op=norm,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


def guide(backbone: nn.Module, dim: int, **changes: Any) -> UHFGuidedNet:
    keeper = AnisotropicKeeper(dim=dim, base_features=4)
    spec = GuidanceSpec(
        keeper=KeeperSpec(network="anisotropic_unet", architecture=keeper.config()),
        guide_channels=(1,),
        fusion={"init": "identity", "gate": "sigmoid"},
        **changes,
    )
    return build_guided_net(backbone, spec)


@pytest.mark.parametrize(
    ("dim", "size"), [(2, (16, 16)), (2, (28, 28)), (2, (8, 40)), (3, (8, 16, 16)), (3, (20, 40, 40))]
)
def test_any_plannable_patch_is_guided_and_starts_as_the_plain_network(dim: int, size: tuple[int, ...]) -> None:
    plain = make_backbone(dim)
    guided = guide(deepcopy(plain), dim)
    assert isinstance(guided.keeper, AnisotropicKeeper)
    x = torch.randn(1, 2, *size)
    torch.testing.assert_close(guided(x), plain(x), atol=1e-6, rtol=0)


def test_training_changes_neither_weights_nor_running_statistics_of_the_keeper() -> None:
    guided = guide(make_backbone(2), 2).train()
    wake(guided)
    before = {name: value.clone() for name, value in guided.keeper.state_dict().items()}
    assert any(name.endswith("running_mean") for name in before)
    optimiser = torch.optim.SGD(guided.parameters(), lr=0.1, momentum=0.99, weight_decay=3e-5)
    for _ in range(3):
        optimiser.zero_grad()
        guided(3 + torch.randn(2, 2, 32, 32)).square().mean().backward()
        optimiser.step()
    assert all(torch.equal(before[name], value) for name, value in guided.keeper.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in guided.keeper.parameters())
    assert not any(module.training for module in guided.keeper.modules())


def test_guides_do_not_depend_on_the_rest_of_the_batch_while_training() -> None:
    guided = guide(make_backbone(2), 2).train()
    x = torch.randn(4, 2, 32, 32)
    for many, one in zip(guided.guides(x), guided.guides(x[2:3]), strict=True):
        torch.testing.assert_close(many[2:3], one, atol=1e-5, rtol=1e-5)


def test_the_keeper_runs_at_its_own_spacing_on_the_named_channel() -> None:
    guided = guide(make_backbone(2), 2, spacing_ratio=[2.0, 1.5])
    x = torch.randn(1, 2, 32, 32)
    resized = nn.functional.interpolate(x[:, 1:], size=(64, 48), mode="bilinear", align_corners=False)
    for found, expected in zip(guided.guides(x), guided.keeper(resized), strict=True):
        assert torch.equal(found, expected)
    assert guided(x).shape == (1, CLASSES, 32, 32)


def test_guidance_reaches_the_output_once_the_scale_has_moved() -> None:
    guided = guide(make_backbone(3), 3).eval()
    wake(guided)
    x = torch.randn(1, 2, 16, 16, 16)
    before = guided(x)
    with torch.no_grad():
        guided.keeper.decode[0].norm.weight.mul_(-1.0)
    assert (guided(x) - before).abs().max() > 1e-4


def test_the_guided_network_compiles_as_one_graph() -> None:
    guided = guide(make_backbone(2), 2).train()
    wake(guided)
    x = torch.randn(1, 2, 32, 32)
    torch.compiler.reset()
    compiled = torch.compile(guided, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), guided(x), atol=1e-5, rtol=1e-4)
