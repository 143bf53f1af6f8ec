"""Feature maps as files: tiles fit together, every map lies where its anatomy is, keepers and plain nnU-Net alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.nn import functional as F

from helpers.guided_runs import brief, model_folder, train
from helpers.support import tiny_keeper
from helpers.workspace import Workspace
from nnunet_uhf.errors import LeftOutError, UHFError
from nnunet_uhf.inference.features import features, map_affine
from nnunet_uhf.inference.map_source import map_source
from nnunet_uhf.inference.map_tiles import strides_of, tiled_maps
from nnunet_uhf.keepers.file import build_keeper, read_keeper

CPU = torch.device("cpu")
STRIDES = {dim: [(step,) * dim for step in (1, 2, 4)] for dim in (2, 3)}


def pooled(patch: torch.Tensor) -> list[torch.Tensor]:
    """Maps whose voxels are the means of the blocks they stand for."""
    pool = F.avg_pool3d if patch.ndim == 5 else F.avg_pool2d
    return [pool(patch, step) for step in (1, 2, 4)]


def blob(shape: tuple[int, ...], centre: tuple[float, ...], affine: np.ndarray, order: str) -> nibabel.Nifti1Image:
    """A soft ball on nothing, stored in an order."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) - centre
    image = nibabel.Nifti1Image(np.exp(-0.5 * ((places / 2.5) ** 2).sum(-1)).astype(np.float32), affine)
    return image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(order)))


def middle(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The centre of mass in mm."""
    places = np.stack(np.meshgrid(*map(np.arange, data.shape), indexing="ij"), axis=-1)
    return apply_affine(affine, (places * data[..., None]).sum((0, 1, 2)) / data.sum())


def tilted(spacing: tuple[float, float, float]) -> np.ndarray:
    angle = np.radians(14)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = affine[:3, :3] @ np.diag(spacing)
    affine[:3, 3] = (-31.0, 12.5, 7.0)
    return affine


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("size", [(32, 32, 32), (40, 70, 33), (20, 33, 47)])
def test_tiles_give_the_map_of_the_whole(dim: int, size: tuple[int, ...]) -> None:
    volumes = torch.rand(3, 1, *size[:dim])
    found = tiled_maps(
        pooled, volumes, strides=STRIDES[dim], patch_size=(30, 32, 32)[:dim], levels=(0, 2), device=CPU
    )  # fmt: skip
    torch.testing.assert_close(found[0], volumes)
    coarse = [-(-n // 4) for n in size[:dim]]
    padded = torch.zeros(3, 1, *(4 * n for n in coarse))
    padded[(slice(None), slice(None), *map(slice, size[:dim]))] = volumes
    torch.testing.assert_close(found[1], pooled(padded)[2])


@pytest.mark.parametrize(("patch", "strides"), [((24, 16), [(2, 2), (8, 8)]), ((30, 15), [(2, 2), (8, 8)])])
def test_strides_are_those_of_a_patch_that_they_divide(patch: tuple[int, int], strides: list[tuple[int, ...]]) -> None:
    def cut(images: torch.Tensor) -> list[torch.Tensor]:
        """Maps of a network that pads its input and gives what fits into it: 15 voxels have one of stride 8."""
        return [images[(..., *(slice(0, n // step * step, step) for n in images.shape[2:]))] for step in (2, 8)]

    assert strides_of(cut, 1, patch, CPU) == strides


@pytest.mark.parametrize("order", ["RAS", "LAS", "ASL", "SPR"])
@pytest.mark.parametrize("dim", [2, 3])
def test_every_map_lies_where_its_anatomy_is(dim: int, order: str, tmp_path: Path) -> None:
    header = {"format_version": 4, "orientation": "LAS", "transpose_forward": (1, 0, 2), "use_mask_for_norm": False}
    keeper = tiny_keeper(tmp_path, dim, normalisation="NoNormalization", spacing_mm=(1.4, 0.8, 1.1)[-dim:], **header)
    scan = tmp_path / "anna.nii.gz"
    image = blob((34, 40, 38), (14.3, 21.6, 17.2), tilted((1.0, 1.25, 0.9)), order)
    nibabel.save(image, scan)
    source = replace(map_source(keeper), maps=pooled)
    prepared = source.prepare((scan,))
    truth = middle(image.get_fdata(), image.affine)
    for level, step in enumerate((1, 2, 4)):
        volume = torch.from_numpy(prepared.data.copy())
        options = {"strides": STRIDES[dim], "patch_size": (32,) * dim, "levels": [level], "device": CPU}
        given = volume[None] if dim == 3 else volume.transpose(0, 1)
        (part,) = tiled_maps(pooled, given, **options)
        one = (part[0, 0] if dim == 3 else part[:, 0]).numpy().transpose(2, 1, 0)
        found = middle(one, map_affine((scan,), prepared, source, (step,) * dim))
        np.testing.assert_allclose(found, truth, atol=0.05)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_maps_of_a_keeper_are_those_of_its_network(dim: int, tmp_path: Path) -> None:
    keeper = tiny_keeper(tmp_path, dim)
    scans = tmp_path / "scans"
    scans.mkdir()
    data = np.random.default_rng(0).uniform(1, 100, (32, 32, 32)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), scans / "anna.nii.gz")
    written = features(scans, tmp_path / "maps", keeper, levels=[2, 0])
    assert [path.name for path in written] == ["anna_level2.nii.gz", "anna_level0.nii.gz"]
    seen = torch.from_numpy((data - data.mean()) / data.std()).permute(2, 1, 0)[None, None]
    network = build_keeper(read_keeper(keeper))
    with torch.inference_mode():
        if dim == 3:
            expected = network(seen)[2][0]
        else:
            expected = torch.stack([network(one)[2][0] for one in seen.unbind(2)], dim=1)
    image = nibabel.load(written[0])
    np.testing.assert_allclose(image.get_fdata().transpose(3, 2, 1, 0), expected.numpy(), atol=1e-4)
    note = json.loads((tmp_path / "maps" / "features.json").read_text())
    assert note["sha256"] == read_keeper(keeper).header.sha256
    assert note["levels"]["2"] == {"stride": [4] * dim}
    with pytest.raises(UHFError, match=r"anna_level2\.nii\.gz is there already"):
        features(scans, tmp_path / "maps", keeper, levels=[2, 0])
    (packed,) = features(scans, tmp_path / "packed", keeper, levels=[2], npz=True)
    with np.load(packed) as content:
        np.testing.assert_allclose(content["level2"], expected.numpy(), atol=1e-4)
        np.testing.assert_allclose(content["affine2"], image.affine)


def test_the_encoder_of_a_plain_nnunet_gives_its_maps(nnunet: Workspace, tmp_path: Path) -> None:
    dataset = nnunet.dataset("single")
    train(brief(nnUNetTrainer), dataset, "3d_fullres")
    model = model_folder(nnunet.results, nnUNetTrainer, dataset, "3d_fullres")
    scans = tmp_path / "scans"
    scans.mkdir()
    case = next((dataset.raw / "imagesTr").iterdir())
    (scans / case.name).write_bytes(case.read_bytes())
    (scans / "flat_0000.nii.gz").write_bytes(b"")
    with pytest.raises(LeftOutError, match="flat_0000"):
        features(scans, tmp_path / "maps", model)
    written = sorted((tmp_path / "maps").glob("*.nii.gz"))
    channels = [nibabel.load(path).shape[3] for path in written]
    assert channels == [4, 8, 16]
    finest, coarsest = (nibabel.load(path) for path in (written[0], written[-1]))
    source = map_source(model)
    stride = [round(a / b) for a, b in zip(finest.shape[:3], coarsest.shape[:3], strict=True)]
    np.testing.assert_allclose(
        np.linalg.norm(coarsest.affine[:3, :3], axis=0) / np.linalg.norm(finest.affine[:3, :3], axis=0), stride
    )
    assert source.note["fold"] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"levels": [9]}, "has the levels 0 to 4"),
        ({"fold": 1}, "which holds one fold: leave the fold away"),
    ],
)
def test_what_a_network_does_not_have_is_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    keeper = tiny_keeper(tmp_path, 2)
    with pytest.raises(UHFError, match=told):
        features(tmp_path, tmp_path / "maps", keeper, **change)
    assert not (tmp_path / "maps").exists()
