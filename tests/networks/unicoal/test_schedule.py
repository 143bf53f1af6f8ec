from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal
from torch import nn

from helpers.unicoal_samples import made_discriminator, made_generator
from nnunet_uhf.networks.unicoal.schedule import LayerPlan, kaiser_filter, layer_plan


def reference() -> LayerPlan:
    return layer_plan(size=256, layers=14, base_channels=16384, max_channels=512, margin=10)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_rates_cutoffs_and_channels_are_those_of_the_specification() -> None:
    layers = reference().layers
    assert [layer.rate for layer in layers] == [16, 16, 16, 32, 32, 64, 64, 128, 128, 128, *[256] * 5]
    assert [round(layer.cutoff, 2) for layer in layers[:6]] == [2, 2.83, 4, 5.66, 8, 11.31]
    assert [layer.channels for layer in layers] == [*[512] * 7, 362, 256, 181, 128, 91, 64, 64, 1]
    assert reference().skips == (4, 6, 9, 12)
    assert reference().stride == 16
    assert [reference().map_size(layer.rate, 256) for layer in layers[:11]] == [
        *[36] * 3, *[52] * 2, *[84] * 2, *[148] * 3, 276,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "generator", "discriminator"),
    [("reference", 59_253_681, 24_592_448), ("efficient", 19_991_773, 6_167_776), ("tiny", 178_157, 77_656)],
)
def test_parameters_are_as_many_as_in_the_original(preset: str, generator: int, discriminator: int) -> None:
    with torch.device("meta"):
        network = made_generator(preset, numbers=1)
        judge = made_discriminator(preset, numbers=1)
    assert count(network) == generator
    assert count(judge) == discriminator
    if preset == "reference":
        synthesis = network.decoder
        assert count(synthesis.mapping) == 361_856
        assert count(network.keeper) == 30_729_016
        assert count(synthesis.fourier) == 264_196
        assert count(synthesis.layers) + count(synthesis.to_image) == 27_898_613


# layer of the signal, oversampled rate, factor, and from the specification: taps, cut-off, half-width, stop band in dB
FILTERS = [
    (0, 32, 2, 12, 0.0625, 0.1875, -62),
    (1, 32, 2, 12, 0.0884, 0.1616, -54),
    (2, 32, 2, 12, 0.125, 0.125, -46),
    (9, 256, 2, 12, 0.1768, 0.0732, -30),
    (12, 512, 2, 12, 0.25, 0.0578, -27.5),
    (2, 64, 4, 24, 0.0625, 0.0625, -49.5),
    (9, 512, 4, 24, 0.0884, 0.0366, -30.5),
]


@pytest.mark.parametrize(("index", "rate", "factor", "taps", "cutoff", "half_width", "stop"), FILTERS)
def test_filters_stop_what_they_shall(
    index: int, rate: int, factor: int, taps: int, cutoff: float, half_width: float, stop: float
) -> None:
    layer = reference().layers[index]
    assert layer.cutoff / rate == pytest.approx(cutoff, abs=1e-4)
    assert layer.half_width / rate == pytest.approx(half_width, abs=1e-4)
    made = kaiser_filter(layer, rate=rate, factor=factor)
    assert len(made) == taps
    np.testing.assert_allclose(made, made[::-1], atol=1e-12)
    assert made.sum() == pytest.approx(1)
    frequency, response = signal.freqz(made, worN=8192, fs=1)
    peak = 20 * np.log10(np.abs(response[frequency >= cutoff + half_width]).max())
    assert peak == pytest.approx(stop, abs=1)
