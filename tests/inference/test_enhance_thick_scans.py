"""`enhance` with models of thick slices: geometry in any orientation, every voxel, uncertainty, errors."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from rich.console import Console
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from helpers.keeper_samples import anisotropic, make_header
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import note_path
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.inference.enhancer import Enhancer
from nnunet_uhf.keepers.file import write_keeper
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.siqt.unet import AnisotropicUNet

RATIO = 4


def header(dim: int = 3, *, model_axis: int = 0, **changes: Any) -> KeeperHeader:
    """A model that makes 4 slices of 1 mm of one, along an axis of the transposed array."""
    masks = changes.pop("masks", None)
    values = {
        "network": "anisotropic_unet",
        "architecture": anisotropic(dim, ratio=RATIO, slice_axis=model_axis - 3 + dim, masks=masks),
        "decoder_architecture": {"dim": dim, "base_features": 4},
        "spacing_mm": (1.0,) * dim,
        "patch_size": (16,) * dim,
        "use_mask_for_norm": False,
    }
    return make_header(dim, **(values | changes))


def model(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """A keeper file of that model with random weights."""
    torch.manual_seed(seed)
    described = header(**changes)
    network = AnisotropicUNet(**described.architecture)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "siqt.safetensors"
    write_keeper(
        path,
        header=described,
        keeper_state=network.keeper.state_dict(),
        decoder_state=network.decoder.state_dict(),
    )
    return path


def thick(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    return (100 + 20 * gaussian_filter(noise, 1.0) / 0.2).clip(5).astype(np.float32)


def save(path: Path, image: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(image, affine), path)
    return path


def quiet(*arguments: Any, **options: Any) -> list[Path]:
    return enhance(*arguments, device="cpu", progress=False, **options)


class Repeat(nn.Module):
    """Every slice four times: the voxel of a sample keeps its value."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(RATIO, dim=2 + self.axis)


def oblique(spacing: tuple[float, ...], order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """Array axes permuted and flipped against the world, then everything turned by some degrees."""
    matrix = np.zeros((3, 3))
    for array_axis, world_axis in enumerate(order):
        matrix[world_axis, array_axis] = signs[array_axis] * spacing[array_axis]
    a, b = np.radians([11, -7])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ tilt @ matrix, (12.5, -31.0, 7.25)
    return affine


ORDERS = list(itertools.permutations(range(3)))


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("masked", [False, True])
def test_slice_k_of_the_scan_lies_at_slice_4k_of_the_image_in_any_orientation(
    case: int, masked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Voxels and world positions of every sample are kept, whatever the order of the axes in file and model."""
    model_axis, transpose = case % 3, ORDERS[case]
    array_axis = 2 - transpose[model_axis]
    spacing = tuple(4.0 if axis == array_axis else 1.0 for axis in range(3))
    shape = [17, 19, 18]
    shape[array_axis] = 7
    image = thick(tuple(shape))
    image[:2], image[:, -3:], image[:, :, :1] = 0, 0, 0  # nnU-Net crops what is zero
    affine = oblique(spacing, ORDERS[(case + 2) % 6], ((1, -1, 1), (-1, -1, 1))[case % 2])
    described = header(model_axis=model_axis, transpose_forward=transpose, use_mask_for_norm=masked)
    network = Repeat(model_axis)
    fake = Enhancer("repeat", (described,), network, [network.state_dict()])  # type: ignore[arg-type]
    monkeypatch.setattr("nnunet_uhf.inference.enhance.load_enhancer", lambda *_, **__: fake)
    path = save(tmp_path / "in.nii.gz", image, affine)
    (out,) = quiet(path, tmp_path / "out.nii.gz", "unused")
    after = nibabel.load(out)
    assert after.shape == tuple(n * RATIO if axis == array_axis else n for axis, n in enumerate(shape))
    samples = (slice(None),) * array_axis + (slice(None, None, RATIO),)
    values = after.get_fdata()[samples]
    inside = np.zeros(image.shape, dtype=bool)
    inside[2:, :-3, 1:] = True
    assert np.corrcoef(values[inside], image[inside])[0, 1] > 0.999999
    assert (values[~inside] == 0).all()
    for index in ((0, 0, 0), (5, 3, 4), (2, 6, 1)):
        finer = [n * RATIO if axis == array_axis else n for axis, n in enumerate(index)]
        np.testing.assert_allclose(apply_affine(after.affine, finer), apply_affine(affine, index), atol=1e-3)


def test_a_sheared_file_is_read_and_written_with_more_slices(tmp_path: Path) -> None:
    sheared = np.diag([1.0, 1, 4, 1])
    sheared[0, 1] = 0.1
    image = nibabel.Nifti1Image(thick((16, 17, 5)), None)
    image.set_sform(sheared, code=1)
    nibabel.save(image, tmp_path / "in.nii.gz")
    (out,) = quiet(tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", model(tmp_path / "m"))
    expected = sheared @ np.diag([1, 1, 0.25, 1])
    np.testing.assert_allclose(nibabel.load(out).affine, expected, atol=1e-6)


@pytest.mark.parametrize(("dim", "model_axis"), [(3, 0), (3, 2), (2, 1)])
def test_every_voxel_is_covered_and_the_plane_stays_as_it_is(dim: int, model_axis: int, tmp_path: Path) -> None:
    """The plane is resampled for the network (0.8 to 1 mm) and back; 9 slices are no multiple of a tile's 4."""
    array_axis = 2 - model_axis
    shape, spacing = [23, 26, 22], [0.8, 0.8, 0.8]
    shape[array_axis], spacing[array_axis] = 9, 4.0
    path = save(tmp_path / "in.nii.gz", thick(tuple(shape)), np.diag([*spacing, 1]))
    (out,) = quiet(path, tmp_path / "out.nii.gz", model(tmp_path / "m", dim=dim, model_axis=model_axis))
    after = nibabel.load(out)
    assert after.shape == tuple(n * RATIO if axis == array_axis else n for axis, n in enumerate(shape))
    values = after.get_fdata()
    assert np.isfinite(values).all()
    assert (values != 0).all()
    np.testing.assert_allclose(after.header.get_zooms()[array_axis], 1.0, atol=1e-6)
    note = json.loads(note_path(out).read_text())
    assert note["slices"] == {
        "made_of_one": RATIO,
        "array_axis": array_axis,
        "spacing_mm": 1.0,
        "trained_spacing_mm": 1.0,
    }


def test_one_patch_is_the_output_of_the_network(tmp_path: Path) -> None:
    """Normalise, run the network, denormalise: written out by hand for a scan of exactly one patch."""
    path = model(tmp_path / "m", use_mask_for_norm=False)
    image = thick((16, 16, 4))
    (out,) = quiet(save(tmp_path / "in.nii.gz", image, np.diag([1.0, 1, 4, 1])), tmp_path / "out.nii.gz", path)
    data = torch.from_numpy(image.transpose(2, 1, 0).copy())
    torch.manual_seed(0)
    network = AnisotropicUNet(**header().architecture).eval()
    with torch.no_grad():
        made = network(((data - data.mean()) / data.std(correction=0))[None, None])[0, 0].numpy()
    intensity = header().target_intensity
    expected = (made * intensity["std"] + intensity["mean"]).transpose(2, 1, 0)
    np.testing.assert_allclose(nibabel.load(out).get_fdata(), expected, atol=1e-2)


def test_slices_along_another_axis_are_an_error_that_names_it_or_are_brought_there(tmp_path: Path) -> None:
    path = model(tmp_path / "m")  # slices along the first transposed axis, the last of the file
    scan = save(tmp_path / "in.nii.gz", thick((6, 18, 17)), np.diag([4.0, 1, 1, 1]))
    with pytest.raises(UHFError, match=r"longest along array axis 0 .*--axis 0 or --axis 2") as error:
        quiet(scan, tmp_path / "out", path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    made = [quiet(scan, tmp_path / f"{axis}.nii.gz", path, axis=axis)[0] for axis in ("0", "sagittal")]
    images = [nibabel.load(one) for one in made]
    assert images[0].shape == (24, 18, 17)
    np.testing.assert_allclose(images[0].affine, np.diag([1.0, 1, 1, 1]), atol=1e-6)
    assert np.array_equal(images[0].get_fdata(), images[1].get_fdata())
    # the network saw the same numbers as in a file whose last axis is that one
    turned = save(tmp_path / "turned.nii.gz", thick((6, 18, 17)).swapaxes(0, 2), np.diag([1.0, 1, 4, 1]))
    (expected,) = quiet(turned, tmp_path / "expected.nii.gz", path)
    np.testing.assert_allclose(images[0].get_fdata(), nibabel.load(expected).get_fdata().swapaxes(0, 2), atol=1e-3)
    with pytest.raises(UHFError, match="slice axis is 'oblique'"):
        quiet(scan, tmp_path / "out", path, axis="oblique")


def test_an_axis_for_a_model_that_keeps_the_grid_is_an_error(tmp_path: Path) -> None:
    path = model(tmp_path / "m", architecture=anisotropic(3))
    scan = save(tmp_path / "in.nii.gz", thick((16, 18, 17)), np.eye(4))
    (out,) = quiet(scan, tmp_path / "out.nii.gz", path)
    assert nibabel.load(out).shape == (16, 18, 17)
    with pytest.raises(UHFError, match="keeps the grid"):
        quiet(scan, tmp_path / "out", path, axis="axial")


@pytest.mark.parametrize(("spacing", "warned"), [(4.0, False), (4.3, False), (5.0, True), (3.0, True)])
def test_slices_of_another_distance_are_warned_of(spacing: float, warned: bool, tmp_path: Path) -> None:
    scan = save(tmp_path / "in.nii.gz", thick((16, 16, 4)), np.diag([1.0, 1, spacing, 1]))
    told = io.StringIO()
    enhance(
        scan,
        tmp_path / "out.nii.gz",
        model(tmp_path / "m"),
        device="cpu",
        progress=False,
        console=Console(file=told, width=400),
    )
    assert ("warning: in.nii.gz: its slices lie" in told.getvalue()) == warned
    np.testing.assert_allclose(nibabel.load(tmp_path / "out.nii.gz").header.get_zooms()[2], spacing / 4, atol=1e-6)


def test_the_uncertainty_is_the_spread_of_the_ensemble_in_the_units_of_the_image(tmp_path: Path) -> None:
    path = model(tmp_path / "m", masks=4)
    scan = save(tmp_path / "in" / "a.nii.gz", thick((16, 16, 4)), np.diag([1.0, 1, 4, 1]))
    (out,) = quiet(tmp_path / "in", tmp_path / "out", path, uncertainty=True)
    spread = nibabel.load(tmp_path / "out" / "a_uncertainty.nii.gz")
    assert spread.shape == nibabel.load(out).shape == (16, 16, 16)
    np.testing.assert_allclose(spread.affine, nibabel.load(out).affine)
    assert note_path(out).is_file()
    assert json.loads(note_path(out).read_text())["uncertainty"]["file"] == "a_uncertainty.nii.gz"

    data = torch.from_numpy(nibabel.load(scan).get_fdata().astype(np.float32).transpose(2, 1, 0).copy())
    torch.manual_seed(0)
    described = header(masks=4)
    network = AnisotropicUNet(**described.architecture).eval()
    with torch.no_grad():
        members = network.forward_all(((data - data.mean()) / data.std(correction=0))[None, None])[:, 0, 0].numpy()
    intensity = described.target_intensity
    np.testing.assert_allclose(spread.get_fdata().transpose(2, 1, 0), members.std(axis=0) * intensity["std"], atol=1e-2)
    np.testing.assert_allclose(
        nibabel.load(out).get_fdata().transpose(2, 1, 0),
        members.mean(axis=0) * intensity["std"] + intensity["mean"],
        atol=1e-2,
    )
    (plain,) = quiet(scan, tmp_path / "plain.nii.gz", path)
    np.testing.assert_allclose(nibabel.load(plain).get_fdata(), nibabel.load(out).get_fdata(), atol=1e-3)
    save(tmp_path / "in" / "a_uncertainty.nii.gz", thick((16, 16, 4)), np.eye(4))
    with pytest.raises(UHFError, match="the uncertainty of another one"):
        quiet(tmp_path / "in", tmp_path / "out", path, uncertainty=True, axis="2")
    (tmp_path / "in" / "a_uncertainty.nii.gz").unlink()
    # an image without its map is not finished
    (tmp_path / "out" / "a_uncertainty.nii.gz").unlink()
    assert quiet(tmp_path / "in", tmp_path / "out", path) == []
    assert len(quiet(tmp_path / "in", tmp_path / "out", path, uncertainty=True)) == 1


def test_a_single_network_has_no_uncertainty(tmp_path: Path) -> None:
    scan = save(tmp_path / "in.nii.gz", thick((16, 16, 4)), np.diag([1.0, 1, 4, 1]))
    with pytest.raises(UHFError, match=r"no ensemble.*SIQTTrainerMasksembles"):
        quiet(scan, tmp_path / "out", model(tmp_path / "m"), uncertainty=True)
    assert not (tmp_path / "out").exists()


def test_mirroring_leaves_the_slice_axis_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    original = AnisotropicUNet.forward

    def noted(self: AnisotropicUNet, source: Tensor, mask: int | None = None) -> Tensor:
        seen.append(source.clone())
        return original(self, source, mask)

    monkeypatch.setattr(AnisotropicUNet, "forward", noted)
    scan = save(tmp_path / "in.nii.gz", thick((16, 16, 4)), np.diag([1.0, 1, 4, 1]))
    quiet(scan, tmp_path / "out.nii.gz", model(tmp_path / "m"), mirroring=True)
    assert len(seen) == 4
    for patch in seen:
        assert any(torch.equal(patch, torch.flip(seen[0], axes)) for axes in ((), (3,), (4,), (3, 4)))


def test_slices_and_their_uncertainty_lie_on_the_scan_for_every_program(tmp_path: Path) -> None:
    scanner, moved = np.diag([1.0, 1, 4, 1]), np.diag([1.0, 1, 4, 1])
    moved[:3, 3] = (5, 3, -2)
    image = nibabel.Nifti1Image(thick((20, 18, 6)), None)
    image.set_qform(scanner, 1)
    image.set_sform(moved, 2)
    (tmp_path / "in").mkdir()
    nibabel.save(image, tmp_path / "in" / "a.nii.gz")
    quiet(tmp_path / "in", tmp_path / "out", model(tmp_path, masks=4), uncertainty=True)
    for name in ("a", "a_uncertainty"):
        made = nibabel.load(tmp_path / "out" / f"{name}.nii.gz").header
        assert made.get_data_shape() == (20, 18, 24)
        assert (int(made["sform_code"]), int(made["qform_code"])) == (2, 1)
        np.testing.assert_allclose(made.get_sform(), moved @ np.diag([1, 1, 1 / RATIO, 1]))
        np.testing.assert_allclose(made.get_qform(), scanner @ np.diag([1, 1, 1 / RATIO, 1]))
