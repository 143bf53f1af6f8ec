from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from helpers.unicoal_samples import asked, decibels, made_generator
from nnunet_uhf.networks.unicoal.network import UniCOAL
from nnunet_uhf.networks.unicoal.question import Question


@pytest.fixture(scope="module")
def network() -> UniCOAL:
    torch.manual_seed(0)
    return made_generator().eval()


def slices(batch: int = 1, size: tuple[int, int] = (64, 64), *, seed: int = 0) -> Tensor:
    return torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


@pytest.mark.parametrize("size", [(64, 64), (48, 36), (96, 80)])
def test_any_size_that_the_coarsest_map_divides_gives_an_image(network: UniCOAL, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network(slices(size=size), asked([0.5])).shape == (1, 1, *size)


def test_other_sizes_are_refused_by_name(network: UniCOAL) -> None:
    with pytest.raises(ValueError, match=r"\(62, 64\) pixels: both must be multiples of 4"):
        network(slices(size=(62, 64)), asked([0.5]))


@pytest.mark.parametrize("filtered", [False, True])
def test_an_image_moves_with_its_slices_below_the_coarsest_pixel(filtered: bool) -> None:
    # as at the start of a training, without what sees the image as a whole
    torch.manual_seed(0)
    network = made_generator(filtered=filtered).eval()
    smooth = torch.nn.functional.interpolate(slices(size=(24, 24)), size=(96, 96), mode="bicubic")
    here, there = smooth[:, :, 16:80, 16:80], smooth[:, :, 15:79, 16:80]
    question = asked([0.5])
    # the second patch lies a pixel higher
    along = question._replace(place=torch.tensor([[-1 / 64, 0.0]]))

    def agreement(second: Question) -> float:
        one, other = (network(x, q)[:, :, 16:-16, 16:-16] for x, q in ((here, question), (there, second)))
        return decibels(one, one[:, :, :-1] - other[:, :, 1:])

    with torch.no_grad():
        network.keeper.features_of.weight.zero_()
        assert agreement(along) >= 50
        assert agreement(question) < agreement(along) - 5
        network.decoder.fourier.weight.zero_()
        assert agreement(question) >= 55


def test_waves_follow_their_place(network: UniCOAL) -> None:
    question = asked([0.5])
    moved = question._replace(place=torch.tensor([[1 / 64, 0.0]]))
    fourier = network.decoder.fourier
    with torch.no_grad():
        latent = network.decoder.mapping(question.condition, question.noise)
        # a pixel of the coarsest map is 4 of the image, 4/64 of the nominal size
        here = fourier(latent, question.place, (24, 24))
        there = fourier(latent, moved.place * 4, (24, 24))
    torch.testing.assert_close(here[:, :, 1:], there[:, :, :-1], atol=1e-4, rtol=1e-4)


def test_a_place_between_slices_changes_the_image_from_the_start(network: UniCOAL) -> None:
    with torch.no_grad():
        images = [network(slices(), asked([delta])) for delta in (0.25, 0.5, 0.75)]
    for one, other in itertools.pairwise(images):
        assert float((one - other).abs().mean() / one.std()) >= 0.1


def test_a_sample_does_not_see_its_batch(network: UniCOAL) -> None:
    x, question = slices(13), asked([n / 12 for n in range(13)])
    with torch.no_grad():
        together = network(x, question)
        for count in (1, 5):
            part = type(question)(*(values[:count] for values in question))
            torch.testing.assert_close(network(x[:count], part), together[:count], atol=1e-5, rtol=0)


def test_computing_layers_again_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    network = made_generator(dropout=0.0)
    x, question = slices(2, (32, 32)), asked([0.2, 0.7])
    found = []
    for again in (False, True):
        network.recompute(again).zero_grad()
        network(x, question).square().mean().backward()
        found.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    assert len(found[0]) == len(list(network.parameters()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)


def test_half_precision_is_close_to_single(network: UniCOAL) -> None:
    with torch.no_grad():
        single = network(slices(), asked([0.5]))
        with torch.autocast("cpu", dtype=torch.float16):
            half = network(slices(), asked([0.5]))
    assert decibels(single, single - half) >= 50


def test_weights_of_slices_are_added_to_what_the_network_makes(network: UniCOAL) -> None:
    x, question = slices(), asked([0.5])
    with torch.no_grad():
        plain = network(x, question)
        weighted = network(x, question._replace(weights=torch.tensor([[0.0, 0.5, 0.5, 0.0]])))
    torch.testing.assert_close(weighted - plain, x[:, 1:3].mean(dim=1, keepdim=True), atol=1e-5, rtol=0)


def test_a_twin_from_its_arguments_gives_the_same_image(network: UniCOAL) -> None:
    twin = UniCOAL(network.keeper.config(), network.decoder.config()).eval()
    twin.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(slices(), asked([0.5])), network(slices(), asked([0.5])))
