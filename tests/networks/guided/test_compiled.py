"""Guided networks under torch.compile: whole graphs, compiled once, with the numbers of before.

The reference preset is compiled within a training (tests/trainers/guided/test_guidance_wrapped.py).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn
from torch._dynamo.utils import counters

from nnunet_uhf.networks.guided.guide import guide
from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.networks.kinds import guide_of
from nnunet_uhf.networks.presets import PRESETS

SMALL: dict[str, dict[str, Any]] = {"knowledge_keeper": {"base_features": 4}, "space_to_depth_unet": {"width": 8}}


def guided(preset: str, dim: int) -> UHFGuidedNet:
    """nnU-Net's U-Net of two stages with deep supervision, and a keeper of the preset."""
    torch.manual_seed(0)
    convolution, norm = (nn.Conv2d, nn.InstanceNorm2d) if dim == 2 else (nn.Conv3d, nn.InstanceNorm3d)
    backbone = PlainConvUNet(
        1, 2, (4, 8), convolution, 3, (1, 2), 1, 3, 1, norm_op=norm, norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU, deep_supervision=True,
    )  # fmt: skip
    chosen = PRESETS[preset]
    keeper = guide_of(chosen.network, {**chosen.keeper, "dim": dim, "in_channels": 1, **SMALL[chosen.network]})
    network = guide(backbone, keeper, preset=preset)
    for parameter in network.fusions.parameters():  # so that the guides are heard
        nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize(("preset", "dim"), [("light", 2), ("efficient", 3)], ids=str)
def test_nothing_breaks_a_graph_and_nothing_is_compiled_again_from_epoch_to_epoch(preset: str, dim: int) -> None:
    network = guided(preset, dim)
    x = torch.randn(2, 1, *[32] * dim)
    network.eval()
    with torch.no_grad():
        expected = network(x)
    torch._dynamo.reset()
    counters.clear()
    network.compile_regions(fullgraph=True, backend="eager")  # a break would be an error

    def graphs() -> int:
        return int(counters["stats"]["unique_graphs"])

    for epoch in range(2):
        network.train()
        sum(output.sum() for output in network(x)).backward()
        network.eval()
        with torch.no_grad():
            found = network(x)
        assert graphs() == 3, f"epoch {epoch}: the keeper, the rest in training, the rest in validation"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for batch in (1, 2, 1):  # an odd batch: one more graph of each, once
        with torch.no_grad():
            network(x[:batch])
    assert graphs() == 5
    assert not any(parameter.grad is not None for parameter in network.keeper.parameters())
    assert all(parameter.grad is not None for parameter in network.fusions.parameters())
