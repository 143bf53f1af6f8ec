"""Sizes and strides of maps at several resolutions."""

from __future__ import annotations

import pytest
import torch

from nnunet_uhf.networks.blocks import (
    crop_levels,
    cumulative,
    minimum_size,
    pad_to_minimum,
    resize,
)
from nnunet_uhf.networks.distillation.levels import level_strides


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
