from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.unicoal_samples import decibels
from nnunet_uhf.networks.unicoal.layers import (
    EPSILON,
    FilteredActivation,
    filtered,
    leaky,
    modulated_conv,
    resampling_matrix,
)
from nnunet_uhf.networks.unicoal.schedule import LayerPlan, kaiser_filter, layer_plan


def reference() -> LayerPlan:
    return layer_plan(size=256, layers=14, base_channels=16384, max_channels=512, margin=10)


def periodic_image(size: int, *, highest: float = 0.5, slope: float = 1.0, seed: int = 0) -> Tensor:
    """A periodic image with a spectrum that falls as 1/f up to a frequency in cycles per pixel, `(1, 1, N, N)`."""
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spectrum = torch.fft.fft2(noise)
    frequency = torch.fft.fftfreq(size, dtype=torch.float64)
    length = (frequency[:, None].square() + frequency.square()).sqrt()
    band = torch.maximum(frequency[:, None].abs(), frequency.abs()) < highest
    spectrum = spectrum * torch.where(length > 0, length.clamp(min=1e-6) ** -slope, 0) * band
    return torch.fft.ifft2(spectrum).real[None, None]


def moved(image: Tensor, pixels: float) -> Tensor:
    """A periodic image moved down, exactly."""
    frequency = torch.fft.fftfreq(image.shape[2], dtype=torch.float64)
    phase = torch.exp(-2j * math.pi * frequency * pixels)
    return torch.fft.ifft2(torch.fft.fft2(image) * phase[:, None]).real


def wrapped(image: Tensor, margin: int) -> Tensor:
    return F.pad(image, (margin,) * 4, mode="circular")


def test_decimation_moves_with_its_image_to_half_a_pixel() -> None:
    image = periodic_image(128)
    taps = torch.tensor(kaiser_filter(reference().layers[1], rate=32, factor=2))

    def decimated(x: Tensor) -> Tensor:
        return filtered(wrapped(x, 6), taps, stride=2)[:, :, :64, :64]

    def agreement(how: object) -> float:
        before, behind = how(image), how(moved(image, 1))  # type: ignore[operator]  # a pixel here is half of one there
        return decibels(before, moved(before, 0.5) - behind)

    assert agreement(decimated) >= 60
    assert agreement(lambda x: x[:, :, ::2, ::2]) < 35
    assert agreement(lambda x: F.avg_pool2d(x, 2)) < 40


def test_leaky_relu_makes_no_frequency_that_moves_against_its_image() -> None:
    image = periodic_image(64, highest=1 / 8, slope=0)
    layer = reference().layers[2]
    activation = FilteredActivation(
        kaiser_filter(layer, rate=32, factor=2), kaiser_filter(layer, rate=32, factor=2), up_factor=2, down_factor=2
    ).double()

    def inner(x: Tensor) -> Tensor:
        return activation(wrapped(x, 8), (80, 80))[:, :, 8:-8, 8:-8]

    def agreement(how: object) -> float:
        before = how(image)  # type: ignore[operator]
        return decibels(before, moved(before, 0.5) - how(moved(image, 0.5)))  # type: ignore[operator]

    assert agreement(inner) >= agreement(leaky) + 30


@pytest.mark.parametrize(("start", "wanted"), [(14, 38), (-3, 30)])
def test_a_matrix_of_resampling_is_zeros_between_pixels_a_filter_and_a_stride(start: int, wanted: int) -> None:
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    taps = torch.tensor(kaiser_filter(reference().layers[2], rate=64, factor=4))
    stuffed = torch.zeros(2, 3, 36, 7, dtype=torch.float64)
    stuffed[:, :, ::4] = x
    for stride in (1, 2):
        end = (wanted - 1) * stride + len(taps) - 36 - start
        plain = F.pad(stuffed, (0, 0, start, end)).view(6, 1, -1, 7)
        plain = F.conv2d(plain, taps.view(1, 1, -1, 1), stride=(stride, 1))
        made = resampling_matrix(taps, length=9, wanted=wanted, start=start, up=4, down=stride) @ x
        torch.testing.assert_close(made, plain.view(2, 3, wanted, 7))


def test_an_activation_is_upsampling_leaky_relu_clamp_and_decimation() -> None:
    layer = reference().layers[2]
    taps = torch.tensor(kaiser_filter(layer, rate=32, factor=2))
    activation = FilteredActivation(taps.numpy(), taps.numpy(), up_factor=2, down_factor=2).double()
    x = 200 * torch.randn(1, 2, 16, 16, dtype=torch.float64)
    stuffed = torch.zeros(1, 2, 32, 32, dtype=torch.float64)
    stuffed[:, :, ::2, ::2] = 4 * x
    # padding for an image of the same size: 31 * 2 - 1 + 1 pixels behind the filters in all, the larger half before
    high = filtered(F.pad(stuffed, (11, 10, 11, 10)), taps)
    assert float(leaky(high).abs().max()) > 256
    wanted = filtered(leaky(high).clamp(-256, 256), taps, stride=2)
    torch.testing.assert_close(activation(x, (16, 16)), wanted, rtol=1e-6, atol=1e-4)


def test_modulation_is_that_of_the_weights_of_each_sample() -> None:
    x, weight, style = torch.randn(3, 5, 8, 8), torch.randn(4, 5, 3, 3), torch.randn(3, 5)
    normal = weight / weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    unit = style / style.square().mean(dim=1, keepdim=True).sqrt()
    for n in range(3):
        own = normal * unit[n][:, None, None]
        own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + EPSILON).sqrt()
        wanted = F.conv2d(x[n : n + 1], own, padding=2)
        torch.testing.assert_close(modulated_conv(x, weight, style, padding=2)[n : n + 1], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(20, 31), (17, 12)])
def test_an_activation_gives_the_size_that_is_asked_for(size: tuple[int, int]) -> None:
    layers = reference().layers
    activation = FilteredActivation(
        kaiser_filter(layers[2], rate=64, factor=4), kaiser_filter(layers[3], rate=64, factor=2), up_factor=4,
        down_factor=2,
    )  # fmt: skip
    assert activation(torch.randn(1, 2, 11, 12), size).shape == (1, 2, *size)
