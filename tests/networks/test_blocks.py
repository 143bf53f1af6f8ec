"""Sizes and strides of the five levels."""

from __future__ import annotations

import pytest
import torch

from nnunet_uhf.networks.blocks import (
    checked_strides,
    crop_levels,
    cumulative,
    level_strides,
    minimum_size,
    pad_to_minimum,
    resize,
)


def test_isotropic_levels_halve_every_axis() -> None:
    assert level_strides(3) == ((1, 1, 1), *[(2, 2, 2)] * 4)
    assert cumulative(level_strides(2))[-1] == (16, 16)


def test_an_axis_coarser_than_twice_the_finest_waits() -> None:
    steps = level_strides(3, spacing=(5.0, 1.0, 1.0))
    assert steps == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))


def test_an_axis_of_exactly_twice_the_finest_is_halved() -> None:
    assert level_strides(2, spacing=(0.2, 0.1))[1] == (2, 2)


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, -1.0)])
def test_a_spacing_that_is_none_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="2 positive values"):
        level_strides(2, spacing=spacing)


@pytest.mark.parametrize("strides", [[[1, 1]] * 4, [[2, 2]] * 5, [[1, 1], [3, 3], *[[2, 2]] * 3], [[1]] * 5])
def test_strides_that_no_level_can_have_are_refused(strides: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"strides must be|first level keeps"):
        checked_strides(2, strides)


def test_padding_leaves_large_images_alone() -> None:
    image = torch.rand(1, 1, 32, 16, 17)
    assert pad_to_minimum(image, level_strides(3)) is image


@pytest.mark.parametrize("size", [(16, 16, 16), (8, 16, 16), (1, 1, 1), (8, 64, 64), (3, 40, 17)])
def test_padding_leaves_two_voxels_at_the_deepest_level(size: tuple[int, ...]) -> None:
    strides = level_strides(3)
    image = torch.rand(2, 1, *size)
    padded = pad_to_minimum(image, strides)
    deepest = [n // s for n, s in zip(padded.shape[2:], cumulative(strides)[-1], strict=True)]
    assert min(deepest) >= 1
    assert torch.tensor(deepest).prod() >= 2
    assert torch.equal(padded[..., : size[0], : size[1], : size[2]], image)


def test_the_smallest_size_is_two_voxels_deep() -> None:
    assert minimum_size(level_strides(3)) == (32, 16, 16)
    assert minimum_size(((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2))) == (2, 32, 16)


def test_cropping_keeps_the_voxels_that_cover_the_image() -> None:
    maps = [torch.rand(1, 1, 32 // 2**level, 16 // 2**level) for level in range(5)]
    cropped = crop_levels(maps, (20, 8), level_strides(2))
    assert [tuple(m.shape[2:]) for m in cropped] == [(20, 8), (10, 4), (5, 2), (2, 1), (1, 1)]
    assert torch.equal(cropped[1], maps[1][..., :10, :4])


def test_resizing_to_the_same_size_is_the_identity() -> None:
    image = torch.rand(1, 2, 5, 6)
    assert resize(image, (5, 6)) is image
