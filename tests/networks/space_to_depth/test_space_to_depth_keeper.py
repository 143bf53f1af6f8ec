"""The space-to-depth keeper, its image head, and both in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.network_contract import StridedContract
from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.levels import level_strides
from nnunet_uhf.networks.distillation.losses import discriminator_loss, distillation_loss
from nnunet_uhf.networks.distillation.teacher import UHFTeacher
from nnunet_uhf.networks.folding import unfold
from nnunet_uhf.networks.space_to_depth.keeper import DepthToSpaceHead, SpaceToDepthKeeper, steps_for
from nnunet_uhf.networks.space_to_depth.training import SpaceToDepthNet

SPACING = (4.0, 1.0, 1.0)


def steps_of(strides: Any) -> Any:
    """The keeper's steps where a teacher has these strides."""
    return None if strides is None else steps_for(3, spacing=SPACING)


def make_net(dim: int, *, taught: bool = True, adversarial: bool = True, strides: Any = None) -> SpaceToDepthNet:
    steps = steps_of(strides)
    teacher = UHFTeacher(dim=dim, base_features=4, strides=strides) if taught else None
    judge = PatchDiscriminator(dim=dim, base_features=4) if adversarial else None
    keeper = SpaceToDepthKeeper(dim=dim, width=8, strides=steps)
    return SpaceToDepthNet(keeper, DepthToSpaceHead(dim=dim, width=8, strides=steps), teacher, judge)


class TestSpaceToDepthKeeper(StridedContract):
    def make(self, dim: int, *, strides: Any = None, **options: Any) -> nn.Module:
        return SpaceToDepthKeeper(dim=dim, width=8, strides=steps_of(strides), **options)

    def check_shapes(self, network: nn.Module, output: list[Tensor], *, batch: int, size: tuple[int, ...]) -> None:
        assert len(output) == 5
        for guide, channels, stride in zip(output, network.channels, network.strides, strict=True):
            expected = [max(1, n // s) for n, s in zip(size, stride, strict=True)]
            assert tuple(guide.shape) == (batch, channels, *expected)


class TestEnhancementNet(StridedContract):
    def make(self, dim: int, *, strides: Any = None, **options: Any) -> nn.Module:
        steps = steps_of(strides)
        head = DepthToSpaceHead(dim=dim, width=8, strides=steps)
        return EnhancementNet(SpaceToDepthKeeper(dim=dim, width=8, strides=steps), head)

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 1, *size)

    def rebuild(self, network: Any) -> nn.Module:
        keeper = SpaceToDepthKeeper(**network.keeper.config())
        return EnhancementNet(keeper, DepthToSpaceHead(**network.decoder.config()))


class TestSpaceToDepthNet(StridedContract):
    def make(self, dim: int, **options: Any) -> nn.Module:
        return make_net(dim, **options)

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 1, *size)

    def train_output(self, network: nn.Module, inputs: tuple[Any, ...]) -> Any:
        return network(*inputs, torch.randn_like(inputs[0]))

    def rebuild(self, network: Any) -> nn.Module:
        return make_net(network.keeper.dim)


@pytest.mark.parametrize("dim", [2, 3])
def test_no_map_has_full_resolution_and_no_width_misses_the_tensor_cores(dim: int) -> None:
    keeper = SpaceToDepthKeeper(dim=dim)
    assert keeper.strides[0] == (2,) * dim
    widths = {
        n for layer in keeper.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d) for n in layer.weight.shape[:2]
    }
    assert {width for width in widths if width % 8} == ({4} if dim == 2 else set())  # the folded image of 2D


def test_an_axis_that_is_coarse_is_not_folded() -> None:
    keeper = SpaceToDepthKeeper(dim=3, width=8, strides=steps_for(3, spacing=SPACING))
    assert keeper.strides == ((1, 2, 2), (2, 4, 4), (4, 8, 8), (8, 16, 16), (16, 32, 32))
    assert keeper.stem[0].in_channels == 4


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0), (3.0, 0.5, 0.5), (1.0, 2.5, 1.0)])
def test_the_keepers_maps_lie_on_the_teachers_grids_but_for_the_finest(spacing: tuple[float, ...] | None) -> None:
    assert steps_for(3, spacing=spacing)[:4] == level_strides(3, spacing=spacing)[1:]


@pytest.mark.parametrize(
    "options",
    [{"width": 12}, {"width": 0}, {"in_channels": 3}, {"strides": [[1, 1]] + [[2, 2]] * 4}, {"strides": [[2, 2]] * 4}],
)
def test_arguments_without_a_meaning_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"multiple of 8|folds an axis|tuples of|carries 8"):
        SpaceToDepthKeeper(dim=2, **options)


@pytest.mark.parametrize("size", [(32, 32), (27, 40)])
def test_the_keeper_learns_all_five_maps_of_its_teacher(size: tuple[int, int]) -> None:
    net = make_net(2, adversarial=False)
    output = net(torch.randn(1, 1, *size), torch.randn(1, 1, *size))
    assert [g.shape for g in output.guides] == [t.shape for t in output.targets]
    assert [t.shape[1] for t in output.targets] == list(net.teacher.channels)
    # nothing of the image is left out
    for level, target in enumerate(output.targets):
        assert all(n >= max(1, m // 2**level) for n, m in zip(target.shape[2:], size, strict=True))
    distillation_loss(output, torch.randn(1, 1, *size))["features"].backward()
    assert all(head.weight.grad.any() for head in net.heads.heads)


def test_the_teacher_stays_as_it_is() -> None:
    net = make_net(2).train()
    assert not net.teacher.training
    assert not any(parameter.requires_grad for parameter in net.teacher.parameters())


def test_without_a_teacher_the_image_is_all_there_is() -> None:
    net = make_net(2, taught=False)
    image, target = torch.randn(1, 1, 32, 32), torch.randn(1, 1, 32, 32)
    output = net(image, target)
    assert (output.guides, output.targets, net.heads, net.teacher) == ([], [], None, None)
    assert output.image.shape == image.shape
    assert set(discriminator_loss(output)) == {"discriminator"}


def test_a_teacher_of_other_strides_is_refused() -> None:
    keeper = SpaceToDepthKeeper(dim=3, width=8, strides=steps_for(3, spacing=SPACING))
    head = DepthToSpaceHead(dim=3, width=8, strides=keeper.steps)
    with pytest.raises(ValueError, match="keeper and teacher differ: strides"):
        SpaceToDepthNet(keeper, head, UHFTeacher(dim=3, base_features=4))


@pytest.mark.parametrize(("dim", "size"), [(2, (27, 40)), (3, (16, 17, 24))])
def test_the_finest_map_carries_the_image_and_the_head_starts_near_it(dim: int, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    keeper, head = SpaceToDepthKeeper(dim=dim, width=8), DepthToSpaceHead(dim=dim, width=8)
    image = torch.randn(1, 1, *size)
    finest = keeper.features(image)[0]
    carried = unfold(finest[:, 8 : 8 + 2**dim], (2,) * dim)
    assert torch.equal(carried[(..., *(slice(n) for n in size))], image)
    assert not finest[:, 8 + 2**dim :].any()
    with torch.no_grad():
        assert (EnhancementNet(keeper, head)(image) - image).abs().mean() < 0.3 * image.abs().mean()
