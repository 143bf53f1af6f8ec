"""Memory of a training step, counted without a device."""

from __future__ import annotations

import copy

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from nnunet_uhf.guidance.memory import LiveTensors, tensors_of, training_bytes


def test_what_is_alive_is_counted_once_and_only_while_it_lives() -> None:
    given = torch.zeros(100)
    with LiveTensors() as memory:
        one = given + 1
        view = one[10:].reshape(9, 10)
        one.add_(1)
        assert (memory.live_bytes, memory.peak_bytes) == (400, 400)
        two = view * 2
        assert memory.live_bytes == 400 + 360
        del one
        assert memory.live_bytes == 400 + 360  # the view holds the storage
        del view
        assert memory.live_bytes == 360
        del two
    assert (memory.live_bytes, memory.peak_bytes) == (0, 760)


def test_a_step_without_content_takes_what_a_real_one_takes() -> None:
    torch.manual_seed(0)
    real = PlainConvUNet(
        1, 3, [4, 8, 16], nn.Conv2d, 3, [1, 2, 2], 2, 3, 2, norm_op=nn.InstanceNorm2d, deep_supervision=True
    )
    peaks = []
    for device in ("cpu", "meta"):
        network = copy.deepcopy(real).to(device)
        with LiveTensors() as memory:
            output = network(torch.zeros(2, 1, 32, 32, device=device))
            torch.stack([y.mean() for y in tensors_of(output)]).sum().backward()
        peaks.append(memory.peak_bytes)
    assert peaks[0] == peaks[1] > 0


def test_weights_that_are_not_trained_have_no_momentum() -> None:
    with torch.device("meta"):
        layer = nn.Conv2d(1, 4, 3, bias=False)
    trained = training_bytes(layer, (1, 1, 8, 8))
    larger = training_bytes(layer, (2, 1, 8, 8))
    assert larger > trained > 2 * 4 * layer.weight.numel()
