"""Thick slices in nnU-Net's batches: their place, and that no augmentation mixes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from helpers.support import tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer
from nnunet_uhf.trainers.image_to_image.simulate_source import SimulateSource
from nnunet_uhf.trainers.image_to_image.thick_slices import OnSlices, ThickSlices
from nnunet_uhf.trainers.siqt.trainers import SIQTTrainer, SIQTTrainerAugmented


def set_native(dataset: TinyDataset, *, ratio: int = 4, axis: int = 1) -> dict[str, Any]:
    """The dataset's description with thick slices kept."""
    description = dataset.dataset_json()
    description["uhf"]["simulate"].update(mode="native", ratios=[ratio], axes=[axis])
    (dataset.preprocessed / "dataset.json").write_text(json.dumps(description))
    return description


@pytest.fixture(scope="module")
def dataset(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyDataset]:
    yield nnunet_module.private("high field", tmp_path_factory.mktemp("native")).dataset("high field")
    nnunet_module.activate()


@pytest.mark.parametrize("axis", [-3, -2, -1])
@pytest.mark.parametrize("size", [12, 10])
def test_slices_come_back_from_their_blocks(axis: int, size: int) -> None:
    slices = ThickSlices(axis, 4)
    image = torch.rand(2, 1, *(3 if a == axis else 5 for a in (-3, -2, -1)))
    blocks = slices.as_blocks(image, size)
    assert blocks.shape[axis] == size
    assert torch.equal(slices.of_blocks(blocks), image)
    assert slices.stretch(3) == tuple(4 if a == axis else 1 for a in (-3, -2, -1))
    assert slices.fitted([30, 30, 30])[axis] == 28


@pytest.mark.parametrize(
    "transform",
    [
        GaussianBlurTransform((0.5, 1.0), p_per_channel=1, benchmark=True),
        SimulateLowResolutionTransform((0.5, 0.5), False, True, None, p_per_channel=1),
    ],
)
@pytest.mark.parametrize("axis", [-3, -2, -1])
def test_blur_and_low_resolution_stay_within_a_slice(transform: Any, axis: int) -> None:
    slices = ThickSlices(axis, 4)
    image = torch.zeros(2, 16, 16, 16)
    place: list[Any] = [0, slice(None), slice(None), slice(None)]
    place[axis + 4] = slice(8, 12)  # the third of four slices
    image[tuple(place)] = torch.rand(1, 4, 16, 16).mean(dim=1).repeat_interleave(4, 0).movedim(0, axis % 3)
    changed = OnSlices(transform, 0, slices)(image=image)["image"]
    assert not torch.equal(changed, image)
    assert torch.equal(changed[1], image[1])
    outside = changed[0].clone()
    outside[tuple(place[1:])] = 0
    assert not outside.any()
    low = slices.of_blocks(changed[:1])
    assert torch.equal(slices.as_blocks(low, 16), changed[:1])


@pytest.mark.parametrize(("configuration", "axis"), [("2d", 1), ("3d_fullres", 0), ("3d_fullres", 2)])
def test_batches_hold_whole_slices_whatever_the_augmentation_drew(
    configuration: str, axis: int, dataset: TinyDataset
) -> None:
    set_native(dataset, axis=axis)
    trainer = tiny_trainer(SIQTTrainerAugmented, dataset, configuration)
    trainer.initialize()
    training, validation = (loader.data_loader for loader in trainer.get_dataloaders())
    kinds = [type(part) for part in training.transforms.transforms]
    assert kinds.index(SpatialTransform) < kinds.index(MirrorTransform) < kinds.index(SimulateSource)
    slice_axis = axis - 3
    for loader in [training] * 6 + [validation]:
        batch = next(loader)
        pair = trainer.pair_of(batch)
        source, target = pair.source, pair.target
        assert source.shape[slice_axis] * 4 == target.shape[slice_axis] == 32
        blocks, channel = trainer.pairs.slices.as_blocks(source, 32), batch["data"][:, :1]
        assert torch.equal(blocks, channel)
        outside = blocks == 0
        assert outside.any()
        # where slices show nothing the target is dark and not 0, which is the mean of the brain
        assert target[outside].mean() < -1
        assert torch.isfinite(source).all()
    # the last batch is of the validation, not augmented: slice k lies at the first voxel of block k
    correlation = [
        np.corrcoef(source.ravel(), trainer.pairs.slices.of_blocks(target.roll(-shift, slice_axis)).ravel())[0, 1]
        for shift in (0, 3)
    ]
    assert correlation[0] > correlation[1]


def test_simulated_scans_are_not_augmented_in_intensity_unless_asked_for(dataset: TinyDataset) -> None:
    set_native(dataset, axis=0)
    trainer = tiny_trainer(SIQTTrainer, dataset, "3d_fullres")
    trainer.initialize()
    parts = trainer.get_dataloaders()[0].data_loader.transforms.transforms
    assert [type(part) for part in parts[:3]] == [SpatialTransform, MirrorTransform, SimulateSource]
    assert not any(isinstance(part, RandomTransform) for part in parts)


def test_a_patch_is_cut_to_whole_blocks(dataset: TinyDataset) -> None:
    set_native(dataset, ratio=6, axis=2)
    trainer = tiny_trainer(SIQTTrainer, dataset, "2d")
    assert list(trainer.configuration_manager.patch_size) == [32, 30]
    assert trainer.block.networks.architecture["ratio"] == 6
    assert trainer.block.networks.architecture["slice_axis"] == 1


def test_teachers_refuse_thick_slices_in_one_line(dataset: TinyDataset, capsys: pytest.CaptureFixture[str]) -> None:
    set_native(dataset)
    with pytest.raises(SystemExit) as end:
        tiny_trainer(UHFTeacherTrainer, dataset, "2d")
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "SIQTTrainer can" in error
    assert not list(Path(dataset.preprocessed.parents[1], "results").glob("*/UHFTeacherTrainer__*"))
