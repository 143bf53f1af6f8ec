"""The anisotropic U-Net: the original's size, any ratio, axis and patch, and its ensemble."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.network_contract import NetworkContract
from nnunet_uhf.networks.kinds import guide_of
from nnunet_uhf.networks.siqt.blocks import ImageHead
from nnunet_uhf.networks.siqt.unet import FACTORS, AnisotropicKeeper, AnisotropicUNet

RATIOS = [(dim, ratio, axis) for dim in (2, 3) for ratio in FACTORS for axis in range(dim)]


def small(dim: int, **options: Any) -> AnisotropicUNet:
    return AnisotropicUNet(dim=dim, **{"base_features": 4, **options})


def well_used(network: nn.Module) -> nn.Module:
    """As after some training: running statistics that are not those of the start."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
    return network


class TestAnisotropicUNet(NetworkContract):
    def make(self, dim: int, **options: Any) -> nn.Module:
        return well_used(small(dim, **options))

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 1, *size)


class TestMaskedOfThickSlices(NetworkContract):
    random_in_training = True

    def make(self, dim: int, **options: Any) -> nn.Module:
        return well_used(small(dim, ratio=2, slice_axis=1, masks=2, **options))

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 1, size[0], 2 * size[1], *size[2:])

    def inputs(self, dim: int, size: tuple[int, ...], batch: int = 2) -> tuple[Any, ...]:
        # enough samples for every mask in one pass: a masked channel has no gradient
        return super().inputs(dim, size, 12 if batch == 2 else batch)


class TestAnisotropicKeeper(NetworkContract):
    def make(self, dim: int, **options: Any) -> nn.Module:
        return well_used(AnisotropicKeeper(dim=dim, base_features=4, **options))

    def check_shapes(self, network: nn.Module, output: list[Tensor], *, batch: int, size: tuple[int, ...]) -> None:
        assert len(output) == 5
        for guide, channels, stride in zip(output, network.channels, network.strides, strict=True):
            expected = [max(1, n // s) for n, s in zip(size, stride, strict=True)]
            assert tuple(guide.shape) == (batch, channels, *expected)


@pytest.mark.parametrize(("ratio", "parameters"), [(8, 9_692_185), (4, 9_685_017), (6, 21_742_241)])
def test_the_network_has_the_originals_trainable_parameters(ratio: int, parameters: int) -> None:
    with torch.device("meta"):
        for masks in (None, 16):
            network = AnisotropicUNet(dim=3, base_features=16, ratio=ratio, slice_axis=2, masks=masks)
            assert sum(p.numel() for p in network.parameters() if p.requires_grad) == parameters


@pytest.mark.parametrize(("dim", "ratio", "axis"), RATIOS)
def test_every_ratio_and_slice_axis_gives_ratio_times_the_slices(dim: int, ratio: int, axis: int) -> None:
    network = small(dim, ratio=ratio, slice_axis=axis).eval()
    with torch.no_grad():
        for size in ((5, 19, 7)[:dim], (1,) * dim):
            wanted = tuple(n * (ratio if i == axis else 1) for i, n in enumerate(size))
            assert tuple(network(torch.randn(1, 1, *size)).shape[2:]) == wanted == network.output_size(size)


@pytest.mark.parametrize(("dim", "ratio", "axis"), RATIOS)
def test_maps_of_the_decoder_are_as_much_coarser_than_the_output_as_strides_say(
    dim: int, ratio: int, axis: int
) -> None:
    network = small(dim, ratio=ratio, slice_axis=axis).eval()
    thick = 2 ** (4 - len(FACTORS[ratio]))
    size = tuple(thick if i == axis else 32 for i in range(dim))
    with torch.no_grad():
        maps = network.keeper(torch.randn(1, 1, *size))
    for level, (level_map, stride) in enumerate(zip(maps, network.strides, strict=True)):
        wanted = tuple(n // s for n, s in zip(network.output_size(size), stride, strict=True))
        assert tuple(level_map.shape) == (1, network.channels[level], *wanted)


def test_the_papers_patch_reaches_two_voxels_a_side_at_the_deepest_level() -> None:
    # 32 x 32 x 4 -> 32^3 at r = 8: the slice axis is pooled once, the plane four times
    network = small(3, ratio=8, slice_axis=2).eval()
    with torch.no_grad():
        maps = network.features(torch.randn(1, 1, 32, 32, 4))
    assert [tuple(m.shape[2:]) for m in maps] == [(n, n, n) for n in (32, 16, 8, 4, 2)]


def test_slices_may_lie_on_any_axis_with_the_same_weights() -> None:
    networks = [small(3, ratio=4, slice_axis=axis).eval() for axis in range(3)]
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    x = torch.randn(1, 1, 16, 32, 8)  # slices last
    with torch.no_grad():
        last = networks[2](x)
        torch.testing.assert_close(networks[0](x.movedim(-1, 2)), last.movedim(-1, 2))
        torch.testing.assert_close(networks[1](x.movedim(-1, 3)), last.movedim(-1, 3))


def test_a_size_that_cannot_be_pooled_gives_the_output_of_the_extended_image() -> None:
    network = well_used(small(2)).eval()
    x = torch.randn(1, 1, 29, 20)
    extended = nn.functional.pad(x, (0, 12, 0, 3), mode="replicate")
    with torch.no_grad():
        assert torch.equal(network(x), network(extended)[:, :, :29, :20])


def test_the_smallest_patch_can_be_trained_on_alone() -> None:
    network = small(3, ratio=3, slice_axis=1).train()
    network(torch.randn(1, 1, 1, 1, 1)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ratio": 5, "slice_axis": 0}, "ratio"),
        ({"ratio": 4}, "slice_axis"),
        ({"ratio": 4, "slice_axis": 2}, "slice_axis"),
        ({"base_features": 6}, "base_features"),
        ({"masks": 1}, "masks"),
        ({"mask_scale": 7.0}, "mask_scale"),
    ],
)
def test_arguments_without_a_meaning_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        small(2, **options)


def test_the_mean_over_the_ensemble_is_the_image_and_members_differ() -> None:
    network = well_used(small(2, ratio=2, slice_axis=0, masks=16)).eval()
    x = torch.randn(2, 1, 16, 32)
    with torch.no_grad():
        members = network.forward_all(x)
        assert members.shape == (16, 2, 1, 32, 32)
        torch.testing.assert_close(network(x), members.mean(dim=0))
        assert torch.equal(network(x, mask=3), members[3])
        assert (members.std(dim=0) > 0).float().mean() > 0.99


def test_every_sample_meets_every_mask_in_time() -> None:
    network = small(2, masks=16).train()
    x = torch.randn(2, 1, 16, 16)
    met = [network.keeper._members(x, None) for _ in range(200)]
    for sample in torch.stack([m for m in met if m is not None]).T:
        counts = torch.bincount(sample, minlength=16)
        assert counts.min() >= 1


def test_masks_travel_with_the_state_dict() -> None:
    network = well_used(small(2, masks=16)).eval()
    state = network.state_dict()
    other = small(2, masks=16)
    for name, value in other.state_dict().items():
        if name.endswith(".masks"):
            value.copy_(1 - state[name])  # another version's masks
    other.load_state_dict(state)
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), network(x))


@pytest.mark.parametrize(("masks", "mask"), [(None, 0), (4, 4), (4, -1)])
def test_a_mask_that_is_not_there_is_refused(masks: int | None, mask: int) -> None:
    network = small(2, masks=masks)
    with pytest.raises(ValueError, match="mask"):
        network(torch.randn(1, 1, 16, 16), mask=mask)
    if masks is None:
        with pytest.raises(ValueError, match="without masks"):
            network.forward_all(torch.randn(1, 1, 16, 16))


@pytest.mark.parametrize("masks", [None, 4])
def test_autocast_keeps_maps_in_half_precision(masks: int | None) -> None:
    network = well_used(small(2, ratio=2, slice_axis=0, masks=masks)).eval()
    x = torch.randn(1, 1, 16, 32)
    with torch.no_grad():
        single = network(x, mask=None if masks is None else 0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps = network.features(x, mask=None if masks is None else 0)
            half = network(x, mask=None if masks is None else 0)
    assert all(level_map.dtype == torch.bfloat16 for level_map in maps)
    assert (half.float() - single).norm() < 0.1 * single.norm()


def test_the_keeper_is_the_network_without_its_last_convolution() -> None:
    network = well_used(small(2)).eval()
    keeper = AnisotropicKeeper(**network.config()).eval()
    keeper.load_state_dict(network.keeper.state_dict())
    head = ImageHead(**network.decoder.config())
    head.load_state_dict(network.decoder.state_dict())
    x = torch.randn(1, 1, 21, 40)
    with torch.no_grad():
        assert torch.equal(head(keeper(x), (21, 40)), network(x))


@pytest.mark.parametrize("options", [{"ratio": 4, "slice_axis": 0}, {"masks": 16}])
def test_what_guides_has_neither_thick_slices_nor_masks(options: dict[str, Any]) -> None:
    architecture = AnisotropicKeeper(dim=2, base_features=4, **options).config()
    with pytest.raises(ValueError, match="anisotropic_unet cannot guide"):
        guide_of("anisotropic_unet", architecture)


def test_the_starting_weights_are_glorots() -> None:
    network = AnisotropicUNet(dim=2, base_features=16, ratio=2, slice_axis=1)
    for layer in (network.keeper.encode[2].second.convolution, network.keeper.ups[3]):
        weight = layer.weight
        taps = math.prod(weight.shape[2:])
        bound = math.sqrt(6 / (taps * (weight.shape[0] + weight.shape[1])))
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not layer.bias.any()
