"""The sliding window for images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor, nn

from nnunet_uhf.inference.predictor import ImagePredictor


def predictor(network: nn.Module, patch: tuple[int, ...], *, mirroring: bool = False, **options: Any) -> ImagePredictor:
    made = ImagePredictor(device="cpu", use_mirroring=mirroring)
    configuration = ConfigurationManager({"architecture": {}, "patch_size": list(patch)})
    axes = range(len(patch)) if mirroring else None
    made.set_network(network, configuration, mirroring_axes=axes, **options)
    return made


def convolution(dim: int, channels: int = 1) -> nn.Module:
    """A network with an instance norm and a border: its output depends on the patch it sees."""
    conv, norm = (nn.Conv2d, nn.InstanceNorm2d) if dim == 2 else (nn.Conv3d, nn.InstanceNorm3d)
    return nn.Sequential(conv(channels, 4, 3, padding=1), norm(4), nn.ReLU(), conv(4, 1, 3, padding=1)).eval()


class Gain(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] * self.gain


class Ramp(nn.Module):
    """Adds a ramp along the last axis: not symmetric under mirroring."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.shape[-1], dtype=x.dtype)


@pytest.mark.parametrize("channels", [1, 2])
def test_one_patch_that_covers_the_volume_gives_the_output_of_the_network(channels: int) -> None:
    network = convolution(3, channels)
    data = torch.randn(channels, 12, 14, 16)
    image = predictor(network, (12, 14, 16)).predict_image(data)
    with torch.no_grad():
        expected = network(data[None])[0]
    assert image.shape == (1, 12, 14, 16)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


def test_a_2d_network_runs_over_the_slices_of_the_first_axis() -> None:
    network = convolution(2)
    data = torch.randn(1, 5, 14, 16)
    image = predictor(network, (14, 16)).predict_image(data)
    with torch.no_grad():
        expected = network(data.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


def test_a_volume_smaller_than_the_patch_is_padded_with_zeros_and_cut_back() -> None:
    network = convolution(3)
    data = torch.randn(1, 10, 16, 11)
    padded = nn.functional.pad(data, (2, 3, 0, 0, 3, 3))
    image = predictor(network, (16, 16, 16)).predict_image(data)
    with torch.no_grad():
        expected = network(padded[None])[0, :, 3:13, :, 2:13]
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("use_gaussian", [True, False])
def test_overlapping_patches_of_a_voxelwise_network_add_up_without_seams(use_gaussian: bool) -> None:
    """Half precision would be off by 0.5 at an intensity of 1000; float32 is exact to 1e-6 of it."""
    made = predictor(Gain(3.0), (8, 8, 8))
    made.use_gaussian = use_gaussian
    data = 1000 * torch.rand(1, 19, 13, 21)
    torch.testing.assert_close(made.predict_image(data), 3 * data, atol=0, rtol=1e-6)


def test_mirroring_averages_the_flipped_predictions_and_is_off_by_default() -> None:
    data = torch.randn(1, 4, 8, 8)
    ramp = torch.arange(8.0)
    torch.testing.assert_close(predictor(Ramp(), (8, 8)).predict_image(data), data + ramp)
    mirrored = predictor(Ramp(), (8, 8), mirroring=True).predict_image(data)
    torch.testing.assert_close(mirrored, data + (ramp + ramp.flip(0)) / 2)


def test_the_images_of_several_folds_are_averaged() -> None:
    data = torch.randn(1, 8, 8, 8)
    folds = [Gain(gain).state_dict() for gain in (1.0, 2.0, 6.0)]
    image = predictor(Gain(0.0), (8, 8, 8), parameters=folds).predict_image(data)
    torch.testing.assert_close(image, 3 * data)


def test_the_same_volume_gives_the_same_image() -> None:
    network = convolution(3)
    data = torch.randn(1, 18, 15, 17)
    first, second = (predictor(network, (8, 8, 8)).predict_image(data) for _ in range(2))
    assert torch.equal(first, second)


def test_a_network_in_training_mode_predicts_in_eval_mode() -> None:
    network = nn.Sequential(nn.Conv3d(1, 1, 1), nn.Dropout(0.9)).train()
    data = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        expected = network[0](data[None])[0]
    torch.testing.assert_close(predictor(network, (8, 8, 8)).predict_image(data), expected)


def test_progress_counts_every_patch_of_every_fold() -> None:
    seen: list[tuple[int, int]] = []
    folds = [Gain(1.0).state_dict(), Gain(2.0).state_dict()]
    made = predictor(Gain(0.0), (8, 8), parameters=folds)
    made.predict_image(torch.randn(1, 3, 12, 8), on_patch=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 12) for done in range(1, 13)]


def test_output_that_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(8, 8, 8\)"):
        predictor(Gain(1.0), (8, 8, 8)).predict_image(torch.zeros(8, 8, 8))
    with pytest.raises(ValueError, match="1 output channel"):
        predictor(nn.Conv3d(1, 2, 1), (8, 8, 8)).predict_image(torch.zeros(1, 8, 8, 8))
    with pytest.raises(RuntimeError, match="NaN"):
        predictor(Gain(float("nan")), (8, 8, 8)).predict_image(torch.ones(1, 8, 8, 8))


def test_making_a_predictor_neither_prints_nor_changes_settings_of_the_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = torch.backends.cudnn.benchmark
    ImagePredictor(device="cpu")
    assert torch.backends.cudnn.benchmark == before
    assert capsys.readouterr().out == ""


class Repeat(nn.Module):
    """Every voxel several times along some axes, and once more at the double."""

    def __init__(self, steps: tuple[int, ...], outputs: int = 1) -> None:
        super().__init__()
        self.steps, self.outputs = steps, outputs

    def forward(self, x: Tensor) -> Tensor:
        for axis, step in enumerate(self.steps, start=2):
            x = x.repeat_interleave(step, dim=axis)
        return torch.cat([x * factor for factor in range(1, self.outputs + 1)], dim=1)


@pytest.mark.parametrize(
    ("stretch", "patch"),
    [((4, 1, 1), (8, 8, 8)), ((1, 3, 1), (8, 9, 8)), ((1, 1, 2), (8, 8, 6)), ((1, 1, 4), (8, 8)), ((1, 6, 1), (12, 8))],
)
@pytest.mark.parametrize("size", [(5, 11, 9), (3, 2, 20)])
def test_a_network_that_stretches_an_axis_covers_every_voxel_of_the_stretched_volume(
    stretch: tuple[int, ...], patch: tuple[int, ...], size: tuple[int, ...]
) -> None:
    data = torch.randn(1, *size)
    steps = stretch[-len(patch) :]
    made = predictor(Repeat(steps, outputs=2), patch, stretch=stretch, outputs=2)
    expected = Repeat(stretch)(data[None])[0]
    image = made.predict_image(data)
    torch.testing.assert_close(image, torch.cat([expected, 2 * expected]), atol=1e-5, rtol=0)


def test_an_output_of_another_size_than_asked_for_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected 1 output channel"):
        predictor(Repeat((2, 1, 1)), (8, 8, 8), stretch=(4, 1, 1)).predict_image(torch.randn(1, 4, 8, 8))
