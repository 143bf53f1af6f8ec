"""The teacher."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.network_contract import NetworkContract, StridedContract
from nnunet_uhf.networks.distillation.teacher import FeatureReconstruction, TeacherDecoder, UHFTeacher


class TestUHFTeacher(StridedContract):
    random_in_training = True

    def make(self, dim: int, **options: Any) -> nn.Module:
        return UHFTeacher(dim=dim, base_features=4, **options)

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 1, *size)

    def train_output(self, network: nn.Module, inputs: tuple[Any, ...]) -> Any:
        return network(*inputs, return_features=True)


class TestTeacherDecoder(NetworkContract):
    def make(self, dim: int, **options: Any) -> nn.Module:
        return TeacherDecoder(dim=dim, base_features=4, **options)

    def inputs(self, dim: int, size: tuple[int, ...], batch: int = 2) -> tuple[Any, ...]:
        maps = UHFTeacher(dim=dim, base_features=4).eval().encode(torch.randn(batch, 1, *size))
        return ([m.detach() for m in maps], torch.Size(size))

    def check_shapes(self, network: nn.Module, output: Tensor, *, batch: int, size: tuple[int, ...]) -> None:
        assert tuple(output.shape) == (batch, 1, *size)


def parameters(module: nn.Module, *, biases: bool = False) -> int:
    """Without biases of 1x1 convolutions, which are ours and start at zero, unless they are asked for alone."""
    return sum(p.numel() for name, p in module.named_parameters() if name.endswith("bias") is biases)


@pytest.mark.parametrize(
    ("dim", "base_features", "encoder", "decoder", "reconstruction"),
    [(3, 16, 1_175_472, 2_988_048, 631_040), (2, 16, 20_880, 33_296, 19_456)],
)
def test_the_teacher_has_the_authors_parameters(
    dim: int, base_features: int, encoder: int, decoder: int, reconstruction: int
) -> None:
    with torch.device("meta"):
        teacher = UHFTeacher(dim=dim, base_features=base_features)
    parts = (teacher.stages, teacher.decoder, teacher.reconstruction)
    assert [parameters(part) for part in parts] == [encoder, decoder, reconstruction]


def test_the_teacher_of_version_0_1_0_had_half_of_the_convolutions_behind_its_encoder_in_2d() -> None:
    with torch.device("meta"):
        before, now = UHFTeacher(dim=2, convolutions=1), UHFTeacher(dim=2)
    sizes = [
        sum(p.numel() for p in part.parameters()) for part in (before.stages, before.decoder, before.reconstruction)
    ]
    assert sizes == [20_880, 21_841, 10_304]
    assert parameters(before, biases=True) == parameters(now, biases=True) == 65 + 64
    assert before.state_dict().keys() < now.state_dict().keys()


@pytest.mark.parametrize("convolutions", [0, 3])
def test_other_numbers_of_convolutions_are_refused(convolutions: int) -> None:
    with pytest.raises(ValueError, match="convolutions must be 1 or 2"):
        UHFTeacher(dim=2, base_features=4, convolutions=convolutions)


@pytest.mark.parametrize("dim", [2, 3])
def test_every_block_that_keeps_the_resolution_has_the_stated_convolutions(dim: int) -> None:
    for convolutions in (1, 2):
        teacher = UHFTeacher(dim=dim, base_features=4, convolutions=convolutions)
        blocks = [teacher.decoder.bottom, *teacher.decoder.merge, *teacher.reconstruction.refine]
        for block in blocks:
            layers = [m for m in block.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
            assert len(layers) == convolutions
            assert all(
                layer.kernel_size == (3,) * dim and layer.out_channels == layers[0].out_channels for layer in layers
            )


def test_maps_have_the_papers_channels_and_convolutions() -> None:
    three, two = UHFTeacher(dim=3, base_features=4), UHFTeacher(dim=2, base_features=4)
    assert three.channels == (4, 8, 16, 32, 64)
    assert two.channels == (4,) * 5
    convolutions = [sum(isinstance(m, nn.Conv2d | nn.Conv3d) for m in t.stages.modules()) for t in (three, two)]
    assert convolutions == [5, 10]


@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
def test_noise_reaches_the_decoder_in_training_only(noise: str) -> None:
    teacher = UHFTeacher(dim=2, base_features=4, noise=noise, noise_probability=1.0)
    image = torch.randn(1, 1, 32, 32)
    assert not torch.equal(teacher.train()(image), teacher(image))
    assert torch.equal(teacher.eval()(image), teacher(image))


def test_noise_leaves_the_features_that_the_losses_see_clean() -> None:
    teacher = UHFTeacher(dim=2, base_features=4, noise_probability=1.0).train()
    image = torch.randn(1, 1, 32, 32)
    first, second = teacher(image, return_features=True), teacher(image, return_features=True)
    assert not torch.equal(first.image, second.image)
    for one, other in zip(
        (*first.features, *first.reconstructed), (*second.features, *second.reconstructed), strict=True
    ):
        assert torch.equal(one, other)


def test_noise_can_be_switched_off() -> None:
    teacher = UHFTeacher(dim=2, base_features=4, noise="none").train()
    image = torch.randn(1, 1, 32, 32)
    assert torch.equal(teacher(image), teacher(image))


@pytest.mark.parametrize(("noise", "mean", "deviation"), [("gaussian", 0.0, 0.7), ("uniform", 0.35, 0.7 / 12**0.5)])
def test_noise_has_the_stated_distribution(noise: str, mean: float, deviation: float) -> None:
    teacher = UHFTeacher(dim=2, base_features=4, noise=noise, noise_scale=0.7, noise_probability=1.0)
    noisy = teacher.perturb([torch.zeros(2, 4, 100, 100)])[0]
    # standard errors of 80000 draws are below 0.003
    assert noisy.mean().item() == pytest.approx(mean, abs=0.012)
    assert noisy.std().item() == pytest.approx(deviation, abs=0.012)


def test_noise_comes_to_the_stated_share_of_samples_on_all_maps_together() -> None:
    teacher = UHFTeacher(dim=2, base_features=4, noise_probability=0.25)
    maps = [torch.zeros(400, 4, 2, 2), torch.zeros(400, 4, 1, 1)]
    first, second = ((m.flatten(1) != 0).any(dim=1) for m in teacher.perturb(maps))
    assert torch.equal(first, second)
    assert first.float().mean().item() == pytest.approx(0.25, abs=0.07)  # three standard errors


def test_unknown_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="noise must be one of"):
        UHFTeacher(dim=2, noise="salt")


@pytest.mark.parametrize("dim", [2, 3])
def test_decoder_and_reconstruction_equal_projection_after_upsampling(dim: int) -> None:
    maps = [m.detach() for m in UHFTeacher(dim=dim, base_features=4).encode(torch.randn(1, 1, *[32] * dim))]
    mode = "bilinear" if dim == 2 else "trilinear"

    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode=mode, align_corners=False)

    decoder = TeacherDecoder(dim=dim, base_features=4)
    x = decoder.bottom(maps[4])
    for level in (3, 2, 1, 0):
        x = decoder.merge[level](torch.cat((decoder.narrow[level](up(x)), maps[level]), dim=1))
    torch.testing.assert_close(decoder(maps, maps[0].shape[2:]), decoder.output(x), atol=1e-5, rtol=1e-5)

    reconstruction = FeatureReconstruction(dim=dim, base_features=4)
    expected = [reconstruction.refine[level](reconstruction.narrow[level](up(maps[level + 1]))) for level in range(4)]
    for one, other in zip(reconstruction(maps), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
