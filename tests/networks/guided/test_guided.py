"""A backbone with keeper and fusion around it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import Tensor, nn

from helpers.network_contract import StridedContract, wake
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.guided.fusion import AdaptiveFusion
from nnunet_uhf.networks.guided.network import UHFGuidedNet, build_guided_net
from nnunet_uhf.networks.guided.spec import GuidanceSpec, KeeperSpec

CLASSES = 4


def make_backbone(
    dim: int, *, stages: int = 3, residual: bool = False, supervised: bool = False, in_channels: int = 1
) -> nn.Module:
    """What nnU-Net plans, small."""
    conv, norm = ((nn.Conv2d, nn.InstanceNorm2d), (nn.Conv3d, nn.InstanceNorm3d))[dim - 2]
    arguments: dict[str, Any] = {
        "input_channels": in_channels,
        "n_stages": stages,
        "features_per_stage": [min(8 * 2**i, 16) for i in range(stages)],
        "conv_op": conv,
        "kernel_sizes": 3,
        "strides": [1] + [2] * (stages - 1),
        "num_classes": CLASSES,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": norm,
        "norm_op_kwargs": {"affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": supervised,
    }
    blocks = [1] * stages
    if residual:
        return ResidualEncoderUNet(n_blocks_per_stage=blocks, **arguments)
    return PlainConvUNet(n_conv_per_stage=blocks, **arguments)


def make_spec(dim: int, **changes: Any) -> GuidanceSpec:
    architecture = KnowledgeKeeper(dim=dim, base_features=4, strides=changes.pop("strides", None)).config()
    fusion = {"init": changes.pop("init", "identity"), "gate": changes.pop("gate", "sigmoid")}
    return GuidanceSpec(keeper=KeeperSpec(architecture=architecture), fusion=fusion, **changes)


def guide(backbone: nn.Module, dim: int, **changes: Any) -> UHFGuidedNet:
    return build_guided_net(backbone, make_spec(dim, **changes))


class TestUHFGuidedNet(StridedContract):
    def make(self, dim: int, **options: Any) -> nn.Module:
        return guide(make_backbone(dim), dim, **options)

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, CLASSES, *size)

    def inputs(self, dim: int, size: tuple[int, ...], batch: int = 2) -> tuple[Any, ...]:
        # nnU-Net plans patches that the backbone's strides divide
        return (torch.randn(batch, 1, *(4 * max(1, n // 4) for n in size)),)

    def rebuild(self, network: Any) -> nn.Module:
        return guide(make_backbone(network.keeper.dim), network.keeper.dim)

    def train_output(self, network: nn.Module, inputs: tuple[Any, ...]) -> Any:
        network.decoder.deep_supervision = True  # or the coarse heads are idle
        return network(*inputs)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dim", [2, 3])
def test_identity_initialisation_equals_the_plain_backbone(dim: int, residual: bool) -> None:
    plain = make_backbone(dim, residual=residual)
    guided = guide(deepcopy(plain), dim)
    x = torch.randn(2, 1, *[16] * dim)
    torch.testing.assert_close(guided(x), plain(x), atol=1e-6, rtol=0)


def test_reference_initialisation_does_not_equal_the_plain_backbone() -> None:
    plain = make_backbone(2)
    guided = guide(deepcopy(plain), 2, init="reference", gate="relu")
    x = torch.randn(2, 1, 32, 32)
    assert (guided(x) - plain(x)).abs().max() > 0.01


@pytest.mark.parametrize("stages", [3, 5, 8])
def test_every_number_of_stages_that_is_planned_can_be_guided(stages: int) -> None:
    size = 4 * 2 ** (stages - 1)
    guided = guide(make_backbone(2, stages=stages), 2)
    assert len(guided.fusions) == stages
    assert guided(torch.randn(1, 1, size, size)).shape == (1, CLASSES, size, size)


def test_names_of_the_backbones_weights_stay_the_plain_networks() -> None:
    plain = make_backbone(3)
    names = set(guide(deepcopy(plain), 3).state_dict())
    assert set(plain.state_dict()) <= names
    assert {name.split(".")[0] for name in names} == {"encoder", "decoder", "keeper", "fusions"}


def test_deep_supervision_switches_as_in_the_plain_network() -> None:
    guided = guide(make_backbone(2, supervised=True), 2)
    x = torch.randn(1, 1, 16, 16)
    assert [tuple(y.shape[2:]) for y in guided(x)] == [(16, 16), (8, 8)]
    guided.decoder.deep_supervision = False
    assert guided(x).shape == (1, CLASSES, 16, 16)


def test_training_mode_cannot_wake_the_keeper() -> None:
    guided = guide(make_backbone(2), 2)
    for mode in (True, False, True):
        guided.train(mode)
        assert guided.training == mode
        assert guided.encoder.training == mode
        assert not any(module.training for module in guided.keeper.modules())


def test_the_keeper_has_no_gradient_and_leaves_no_autograd_graph() -> None:
    guided = guide(make_backbone(2), 2).train()
    wake(guided)
    x = torch.randn(1, 1, 32, 32, requires_grad=True)
    assert all(not g.requires_grad and g.grad_fn is None for g in guided.guides(x))
    guided(x).square().mean().backward()
    assert all(p.grad is None and not p.requires_grad for p in guided.keeper.parameters())
    assert all(p.grad is not None for p in guided.fusions.parameters())


def test_the_keeper_saves_nothing_for_a_backward_pass() -> None:
    guided = guide(make_backbone(2), 2).train()
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        guided.guides(torch.randn(1, 1, 32, 32))
    assert saved == []


def test_the_keeper_is_bit_identical_after_optimiser_steps() -> None:
    guided = guide(make_backbone(2), 2).train()
    wake(guided)
    before = {name: value.clone() for name, value in guided.keeper.state_dict().items()}
    optimiser = torch.optim.SGD(guided.parameters(), lr=0.1, momentum=0.99, weight_decay=3e-5)
    for _ in range(3):
        optimiser.zero_grad()
        guided(torch.randn(1, 1, 32, 32)).square().mean().backward()
        optimiser.step()
    assert all(torch.equal(before[name], value) for name, value in guided.keeper.state_dict().items())


def test_guidance_reaches_the_output_once_the_scale_has_moved() -> None:
    guided = guide(make_backbone(2), 2).eval()
    wake(guided)
    x = torch.randn(1, 1, 32, 32)
    before = guided(x)
    with torch.no_grad():
        guided.keeper.guides[0].skip[0].weight.mul_(-1.0)
    assert (guided(x) - before).abs().max() > 1e-4


def test_the_keeper_sees_the_named_channel_only() -> None:
    guided = guide(make_backbone(2, in_channels=3), 2, guide_channels=(1,))
    x = torch.randn(2, 3, 32, 32)
    before = guided.guides(x)
    x[:, [0, 2]] = 0
    assert all(torch.equal(one, other) for one, other in zip(before, guided.guides(x), strict=True))
    for found, expected in zip(before, guided.keeper(x[:, 1:2]), strict=True):
        assert torch.equal(found, expected)


def test_the_keeper_runs_at_its_own_spacing_inside_the_network() -> None:
    # network voxels of 2 x 1.5 mm, keeper voxels of 1 x 1 mm
    guided = guide(make_backbone(2), 2, spacing_ratio=[2.0, 1.5])
    x = torch.randn(1, 1, 32, 32)
    assert tuple(guided.guides(x)[0].shape[2:]) == (64, 48)
    assert guided(x).shape == (1, CLASSES, 32, 32)
    smooth = torch.linspace(0, 1, 32).reshape(1, 1, 32, 1).expand(1, 1, 32, 32)
    resized = torch.nn.functional.interpolate(smooth, size=(64, 48), mode="bilinear", align_corners=False)
    for found, expected in zip(guided.guides(smooth), guided.keeper(resized), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_coarser_keeper_may_get_less_than_a_minimal_patch(dim: int) -> None:
    guided = guide(make_backbone(dim), dim, spacing_ratio=[0.4] * dim)
    assert guided(torch.randn(1, 1, *[16] * dim)).isfinite().all()


def test_an_anisotropic_keeper_guides_an_anisotropic_patch() -> None:
    strides = [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2]]
    guided = guide(make_backbone(3), 3, strides=strides)
    assert guided(torch.randn(1, 1, 8, 64, 64)).shape == (1, CLASSES, 8, 64, 64)


def test_a_network_without_encoder_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="Conv2d cannot be guided"):
        guide(nn.Conv2d(1, 2, 3), 2)


def test_a_wrong_number_of_fusions_is_refused() -> None:
    keeper = KnowledgeKeeper(dim=2, base_features=4)
    with pytest.raises(ValueError, match="3 stages but 1 fusion"):
        UHFGuidedNet(make_backbone(2), keeper, [AdaptiveFusion(keeper.channels, 8, dim=2)])


@pytest.mark.parametrize("ratio", [[1.0], [1.0, 0.0]])
def test_a_spacing_ratio_without_meaning_is_refused(ratio: list[float]) -> None:
    with pytest.raises(ValueError, match="spacing_ratio needs 2 positive values"):
        guide(make_backbone(2), 2, spacing_ratio=ratio)
