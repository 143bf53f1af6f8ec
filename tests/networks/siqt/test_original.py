"""The anisotropic U-Net against its formulas, written down a second time in plain torch, with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_uhf.networks.siqt.unet import AnisotropicUNet

LEVELS = 5


class Original:
    """The forward pass of the original from a state dict; slices on the last axis, no masks, running statistics."""

    def __init__(self, state: dict[str, Tensor], dim: int, ratio: int, pool: Any) -> None:
        self.state, self.ratio, self.pool = state, ratio, pool
        self.conv = F.conv2d if dim == 2 else F.conv3d
        self.up = F.conv_transpose2d if dim == 2 else F.conv_transpose3d
        self.plane = (2,) * (dim - 1)

    def convolve(self, x: Tensor, name: str) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return self.conv(x, weight, self.state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def upsample(self, x: Tensor, name: str) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return self.up(x, weight, self.state[f"{name}.bias"], stride=tuple(weight.shape[2:]))

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            self.state[f"{name}.{part}"].reshape(-1, *[1] * (x.ndim - 2))
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * scale + shift

    def unit(self, x: Tensor, name: str) -> Tensor:
        """Convolution -> ReLU -> BN."""
        return self.norm(F.relu(self.convolve(x, f"{name}.convolution")), f"{name}.norm")

    def core(self, x: Tensor, name: str) -> Tensor:
        """Two convolutions of 3 beside a shortcut of 1; add -> ReLU -> BN."""
        both = self.unit(self.unit(x, f"{name}.first"), f"{name}.second")
        return self.norm(F.relu(both + self.convolve(x, f"{name}.shortcut")), f"{name}.norm")

    def bottleneck(self, x: Tensor, name: str) -> Tensor:
        y = x
        for part in ("squeeze", "first", "second", "widen"):
            y = self.unit(y, f"{name}.{part}")
        return self.upsample(x + y, f"{name}.upsample")

    def __call__(self, x: Tensor) -> Tensor:
        # ratio 6: the plane by 3 and then by 2, the slices by neither
        spared = {6: 2}.get(self.ratio, self.ratio.bit_length() - 1)
        skips = []
        for level in range(LEVELS):
            if level:
                step = 3 if self.ratio == 6 and level == 1 else 2
                x = self.pool(x, (*(step,) * len(self.plane), 1 if level <= spared else 2))
            x = self.core(x, f"keeper.encode.{level}")
            skips.append(x)
        x = self.core(x, "keeper.decode.4")
        for level in (3, 2, 1, 0):
            skip = self.bottleneck(skips[level], f"keeper.skips.{level}")
            x = self.core(torch.cat((self.upsample(x, f"keeper.ups.{level}"), skip), 1), f"keeper.decode.{level}")
        return self.convolve(x, "decoder.output")


def drawn(dim: int, ratio: int, pooling: str) -> AnisotropicUNet:
    """A network in double precision whose running statistics and affine weights are not those of the start."""
    network = AnisotropicUNet(dim=dim, base_features=8, ratio=ratio, slice_axis=dim - 1, pooling=pooling)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(("running_mean", "bias")):
                value.uniform_(-0.2, 0.2)
            elif name.endswith(("running_var", "norm.weight")):
                value.uniform_(0.5, 1.5)
    return network.eval().double()


def pools(dim: int) -> dict[str, Any]:
    return {"max": (F.max_pool2d, F.max_pool3d)[dim - 2], "average": (F.avg_pool2d, F.avg_pool3d)[dim - 2]}


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize(("dim", "ratio"), [(2, 1), (2, 4), (3, 8), (3, 4), (3, 2), (2, 6), (3, 6)])
def test_the_network_computes_the_originals_formulas(dim: int, ratio: int, pooling: str) -> None:
    network = drawn(dim, ratio, pooling)
    side = 48 if ratio == 6 else 32
    x = torch.randn(2 if side == 32 else 1, 1, *[side] * (dim - 1), side // ratio, dtype=torch.float64)
    with torch.no_grad():
        made = network(x)
        expected = Original(network.state_dict(), dim, ratio, pools(dim)[pooling])(x)
    assert made.shape == (len(x), 1, *[side] * dim)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("dim", "ratio"), [(2, 1), (3, 8)])
def test_a_new_network_pools_by_maximum_which_the_average_is_far_from(dim: int, ratio: int) -> None:
    network = drawn(dim, ratio, "average")
    twin = AnisotropicUNet(dim=dim, base_features=8, ratio=ratio, slice_axis=dim - 1).eval().double()
    assert twin.config()["pooling"] == "max"
    twin.load_state_dict(network.state_dict(), strict=True)  # a pooling has no weights: only the entry tells them apart
    x = torch.randn(2, 1, *[32] * (dim - 1), 32 // ratio, dtype=torch.float64)
    with torch.no_grad():
        original = Original(network.state_dict(), dim, ratio, pools(dim)["max"])(x)
        torch.testing.assert_close(twin(x), original, atol=1e-6, rtol=1e-6)
        assert (network(x) - original).norm() > 0.05 * (original - original.mean()).norm()


def test_ratio_6_is_the_originals_unless_a_file_says_otherwise_and_no_other_ratio_has_a_step_of_3() -> None:
    network = AnisotropicUNet(dim=2, base_features=4, ratio=6, slice_axis=1)
    assert network.channels == (4, 12, 24, 48, 96)
    assert network.config()["plane_step"] == 3
    assert network.strides[1] == (3, 3)
    before = AnisotropicUNet(dim=2, base_features=4, ratio=6, slice_axis=1, plane_step=2)  # of version 0.1.0
    assert before.channels == (4, 8, 16, 32, 64)
    assert AnisotropicUNet(dim=2, base_features=4, ratio=3, slice_axis=1).channels == before.channels
    with pytest.raises(ValueError, match="plane_step must be 2, or 3 where the ratio is 3 or 6, got 3 at ratio 4"):
        AnisotropicUNet(dim=2, base_features=4, ratio=4, slice_axis=1, plane_step=3)
