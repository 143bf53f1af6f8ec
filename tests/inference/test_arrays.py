"""Feature maps and enhanced images of arrays are those of the files."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from nnunet_uhf.errors import MatchError, UHFError
from nnunet_uhf.inference.arrays import enhance_array, feature_maps
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.keepers.file import read_keeper, write_keeper
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.keepers.load import load_keeper
from nnunet_uhf.keepers.untrained import write_untrained_keeper

SHAPE = (24, 40, 32)  # Z, Y, X


@pytest.fixture
def scan() -> np.ndarray:
    """Intensities above 0, so that nothing is cropped."""
    return np.random.default_rng(0).uniform(20, 100, SHAPE).astype(np.float32)


def keeper_file(folder: Path, dim: int) -> Path:
    return write_untrained_keeper(folder / f"keeper_{dim}d.safetensors", dim=dim)


def write_scan(path: Path, array: np.ndarray, spacing: float = 1.0) -> Path:
    nibabel.save(nibabel.Nifti1Image(array.T, np.diag([-spacing, -spacing, spacing, 1])), path)
    return path


def with_header(path: Path, **changes: object) -> Path:
    """The keeper file with other values in its header."""
    from dataclasses import replace

    file = read_keeper(path)
    header: KeeperHeader = replace(file.header, **changes)
    write_keeper(path, header=header, keeper_state=file.keeper_state, decoder_state=file.decoder_state)
    return path


@pytest.mark.parametrize("dim", [2, 3])
def test_a_file_on_the_keepers_grid_has_the_maps_of_its_array(dim: int, scan: np.ndarray, tmp_path: Path) -> None:
    keeper = keeper_file(tmp_path, dim)
    of_file = feature_maps(write_scan(tmp_path / "scan.nii.gz", scan), keeper)
    of_array = feature_maps(scan, keeper, spacing_mm=(1.0, 1.0, 1.0))
    np.testing.assert_allclose(of_file.image, of_array.image, atol=1e-5)
    for one, other in zip(of_file.maps, of_array.maps, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_maps_of_a_volume_are_those_of_its_slices(scan: np.ndarray, tmp_path: Path) -> None:
    keeper = keeper_file(tmp_path, 2)
    scores = (scan - scan.mean()) / scan.std()
    whole = feature_maps(scores, keeper, normalised=True)
    slice_ = feature_maps(scores[5], keeper, normalised=True)
    alone = load_keeper(keeper)(torch.from_numpy(scores[5])[None, None])
    for volume, one, reference in zip(whole.maps, slice_.maps, alone, strict=True):
        np.testing.assert_allclose(volume[:, 5], one, atol=1e-6)
        np.testing.assert_allclose(one, reference[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(("dim", "shape"), [(2, (24, 32, 32)), (3, (24, 32, 32))])
def test_the_central_patch_is_as_large_as_the_trainings(
    dim: int, shape: tuple[int, ...], scan: np.ndarray, tmp_path: Path
) -> None:
    found = feature_maps(scan, keeper_file(tmp_path, dim), patch=True)
    assert found.image.shape == shape
    assert found.maps[0].shape[1:] == shape


@pytest.mark.parametrize("dim", [2, 3])
def test_an_array_is_enhanced_as_its_file_is(dim: int, scan: np.ndarray, tmp_path: Path) -> None:
    keeper = with_header(keeper_file(tmp_path, dim), target_intensity={"mean": 70.0, "std": 25.0})
    (path,) = enhance(
        write_scan(tmp_path / "scan.nii.gz", scan), tmp_path / "out.nii.gz", keeper, device="cpu", progress=False
    )
    written = nibabel.load(path).get_fdata().T
    np.testing.assert_allclose(enhance_array(scan, keeper), written, atol=1e-2)


def test_outside_the_mask_of_its_normalisation_an_enhanced_array_is_zero(scan: np.ndarray, tmp_path: Path) -> None:
    keeper = with_header(keeper_file(tmp_path, 2), use_mask_for_norm=True)
    scan[:, :4] = 0
    scores = feature_maps(scan, keeper).image
    for enhanced in (enhance_array(scan, keeper), enhance_array(scores, keeper, normalised=True)):
        assert not enhanced[:, :4].any()
        assert enhanced[:, 4:].all()


def test_an_array_at_another_spacing_is_refused(scan: np.ndarray, tmp_path: Path) -> None:
    keeper = keeper_file(tmp_path, 2)
    feature_maps(scan, keeper, spacing_mm=(6.0, 1.05, 1.0))  # a 2D keeper does not look across slices
    with pytest.raises(MatchError, match=r"spacing of \(1.0, 1.2, 1.0\) mm, the keeper \(1.0, 1.0\) mm"):
        feature_maps(scan, keeper, spacing_mm=(1.0, 1.2, 1.0))
    for nonsense in ((1.0,), (1.0, 0.0, 1.0)):
        with pytest.raises(MatchError, match="resample it"):
            feature_maps(scan, keeper, spacing_mm=nonsense)


def test_an_array_of_other_axes_is_refused(scan: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(MatchError, match=r"a 3D keeper takes \(Z, Y, X\)"):
        feature_maps(scan[0], keeper_file(tmp_path, 3))


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN"), (7.0, "one intensity everywhere")])
def test_an_array_that_shows_nothing_is_refused(value: float, message: str, tmp_path: Path) -> None:
    with pytest.raises(UHFError, match=message):
        enhance_array(np.full((32, 32), value), keeper_file(tmp_path, 2))
