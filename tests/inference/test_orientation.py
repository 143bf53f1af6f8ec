"""One scan stored in several orientations: a keeper sees the same anatomy, and each file gets its image back."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from rich.console import Console

from helpers.keeper_samples import anisotropic, make_header, statistics
from helpers.support import tiny_keeper
from nnunet_uhf import feature_maps
from nnunet_uhf.errors import UHFError, UHFWarning
from nnunet_uhf.imageio.files import note_path
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.inference.input_check import check_inputs
from nnunet_uhf.keepers.file import write_keeper
from nnunet_uhf.networks.siqt.unet import AnisotropicUNet

ORDERS = ("LAS", "RAS", "PIR", "ASL", "SAL")
SHAPE = (12, 18, 32)


def oblique(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """LAS, tilted by some degrees."""
    a, b = np.radians([12, -9])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ tilt @ np.diag(np.multiply((-1, 1, 1), spacing)), (9.5, -20.0, 4.25)
    return affine


def scan(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    noise = np.random.default_rng(5).uniform(20, 120, shape).astype(np.float32)
    noise[:2] = noise[:, -3:] = 0
    return noise


def as_stored(image: nibabel.Nifti1Image, order: str) -> nibabel.Nifti1Image:
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(order)))


def write_all(folder: Path, image: np.ndarray, affine: np.ndarray) -> Path:
    folder.mkdir()
    for order in ORDERS:
        nibabel.save(as_stored(nibabel.Nifti1Image(image, affine), order), folder / f"{order}.nii.gz")
    return folder


def quiet(*arguments: Any, **options: Any) -> list[Path]:
    return enhance(*arguments, device="cpu", progress=False, **options)


@pytest.fixture(scope="module")
def keepers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("keepers")
    new = {"format_version": 4, "orientation": "LAS"}
    return {dim: tiny_keeper(folder, dim, transpose_forward=(1, 0, 2), **new) for dim in (2, 3)}


@pytest.mark.parametrize("dim", [2, 3])
def test_a_scan_is_enhanced_to_one_volume_however_it_is_stored(
    tmp_path: Path, keepers: dict[int, Path], dim: int
) -> None:
    inputs = write_all(tmp_path / "in", scan(), oblique((0.8, 1.0, 1.3)))
    written = {path.name[:3]: path for path in quiet(inputs, tmp_path / "out", keepers[dim])}
    images = {order: nibabel.load(written[order]) for order in ORDERS}
    first = images["LAS"].get_fdata()
    assert np.ptp(first) > 1
    for order, image in images.items():
        before = nibabel.load(inputs / f"{order}.nii.gz")
        assert image.shape == before.shape
        np.testing.assert_allclose(image.affine, before.affine, atol=1e-5)
        np.testing.assert_allclose(as_stored(image, "LAS").get_fdata(), first, atol=1e-5 * np.abs(first).max())
        note = json.loads(note_path(written[order]).read_text())
        assert note["orientation"] == {"stored": order, "seen_by_the_model": "LAS"}


def test_a_keeper_that_does_not_know_its_orientation_takes_scans_as_before_and_says_so(
    tmp_path: Path, keepers: dict[int, Path]
) -> None:
    old = tiny_keeper(tmp_path, 3, transpose_forward=(1, 0, 2))
    inputs = write_all(tmp_path / "in", scan(), oblique())
    shown = io.StringIO()
    quiet(inputs, tmp_path / "old", old, console=Console(file=shown, width=300))
    assert shown.getvalue().count("scans are not turned: the keeper does not say in which orientation") == 1
    quiet(inputs, tmp_path / "new", keepers[3])
    old_images, new_images = (
        {order: nibabel.load(tmp_path / name / f"{order}.nii.gz").get_fdata() for order in ORDERS}
        for name in ("old", "new")
    )
    np.testing.assert_array_equal(old_images["LAS"], new_images["LAS"])  # where both see the same
    assert np.abs(old_images["PIR"] - new_images["PIR"]).max() > 0.1


def test_a_keeper_of_mixed_scans_turns_nothing_and_says_why(tmp_path: Path) -> None:
    mixed = tiny_keeper(tmp_path, 2, format_version=4, orientation="mixed")
    path = tmp_path / "one.nii.gz"
    nibabel.save(nibabel.Nifti1Image(scan(), oblique()), path)
    shown = io.StringIO()
    quiet(path, tmp_path / "out", mixed, console=Console(file=shown, width=300))
    assert "was trained on scans that are stored in several orientations" in shown.getvalue()


def test_check_input_and_feature_maps_see_the_same_of_every_stored_order(tmp_path: Path) -> None:
    fields = {"format_version": 4, "orientation": "LAS", "feature_statistics": statistics()}
    keeper = tiny_keeper(tmp_path, 2, **fields)
    inputs = write_all(tmp_path / "in", scan(), oblique())
    checks = check_inputs(inputs, keeper)
    assert len({check.overall.distance for check in checks.values()}) == 1
    first = feature_maps(inputs / "LAS.nii.gz", keeper)
    for order in ORDERS[1:]:
        found = feature_maps(inputs / f"{order}.nii.gz", keeper)
        np.testing.assert_array_equal(found.image, first.image)
        np.testing.assert_array_equal(found.maps[2], first.maps[2])


def test_features_of_a_file_by_a_keeper_without_orientation_come_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "one.nii.gz"
    nibabel.save(nibabel.Nifti1Image(scan(), oblique()), path)
    with pytest.warns(UHFWarning, match="scans are not turned"):
        feature_maps(path, tiny_keeper(tmp_path, 2))


def thick_model(folder: Path, orientation: str | None) -> Path:
    """Makes 4 slices of 1 mm of one, along the first axis of the array, which is the third of the file."""
    torch.manual_seed(0)
    described = make_header(
        3,
        network="anisotropic_unet",
        architecture=anisotropic(3, ratio=4, slice_axis=0),
        decoder_architecture={"dim": 3, "base_features": 4},
        spacing_mm=(1.0, 1.0, 1.0),
        patch_size=(16, 16, 16),
        orientation=orientation,
    )
    network = AnisotropicUNet(**described.architecture)
    path = folder / f"siqt_{orientation}.safetensors"
    states = {"keeper_state": network.keeper.state_dict(), "decoder_state": network.decoder.state_dict()}
    write_keeper(path, header=described, **states)
    return path


def test_thick_slices_are_made_thin_along_the_same_anatomy_and_lie_where_the_model_puts_them(tmp_path: Path) -> None:
    inputs = write_all(tmp_path / "in", scan((16, 18, 6)), oblique((1.0, 1.0, 4.0)))
    quiet(inputs, tmp_path / "out", thick_model(tmp_path, "LAS"))
    first = nibabel.load(tmp_path / "out" / "LAS.nii.gz")
    assert first.shape == (16, 18, 24)
    for order in ORDERS[1:]:
        image = nibabel.load(tmp_path / "out" / f"{order}.nii.gz")
        turned = as_stored(image, "LAS")
        np.testing.assert_allclose(turned.get_fdata(), first.get_fdata(), atol=1e-4)
        # at its place in the head: the new slices behind the last one are on the same side of it
        np.testing.assert_allclose(turned.affine, first.affine, atol=1e-4)


def test_thick_slices_across_another_axis_than_the_training_s_are_refused_by_anatomy(tmp_path: Path) -> None:
    sagittal = nibabel.Nifti1Image(scan((6, 18, 16)), oblique((4.0, 1.0, 1.0)))
    path = tmp_path / "sagittal.nii.gz"
    nibabel.save(as_stored(sagittal, "PIR"), path)  # slices along the third axis of the file, as in the training
    quiet(path, tmp_path / "as_before", thick_model(tmp_path, None))
    with pytest.raises(UHFError, match=r"longest along array axis 2 .* array axis 1 .* --axis 2 or --axis 1"):
        quiet(path, tmp_path / "out", thick_model(tmp_path, "LAS"))
    (made,) = quiet(path, tmp_path / "out", thick_model(tmp_path, "LAS"), axis="sagittal")
    assert nibabel.load(made).shape == (18, 16, 24)


def test_what_names_no_orientation_is_read_as_it_is_stored_with_a_warning(
    tmp_path: Path, keepers: dict[int, Path]
) -> None:
    without = nibabel.Nifti1Image(scan(), np.diag([1.0, 1, 1, 1]))
    without.header.set_sform(None, code=0)
    without.header.set_qform(None, code=0)
    path = tmp_path / "no_code.nii"
    nibabel.save(nibabel.Nifti1Image(without.dataobj, None, without.header), path)
    with pytest.warns(UHFWarning, match="names no orientation, the model's scans are stored in LAS"):
        quiet(path, tmp_path / "out", keepers[2])


def test_a_single_slice_is_flipped_in_its_plane_and_never_turned_out_of_it(
    tmp_path: Path, keepers: dict[int, Path], recwarn: pytest.WarningsRecorder
) -> None:
    keeper = tiny_keeper(tmp_path, 2, format_version=4, orientation="LAS")
    image = scan((40, 36, 1))
    for name, affine in (("las", np.diag([-1.0, 1, 1, 1])), ("ras", np.diag([1.0, 1, 1, 1]))):
        nibabel.save(nibabel.Nifti1Image(image if name == "las" else image[::-1], affine), tmp_path / f"{name}.nii")
        quiet(tmp_path / f"{name}.nii", tmp_path / "out", keeper)
    las, ras = (nibabel.load(tmp_path / "out" / f"{name}.nii").get_fdata() for name in ("las", "ras"))
    np.testing.assert_array_equal(ras[::-1], las)
    assert not [one for one in recwarn if "another plane" in str(one.message)]
    coronal = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(image, coronal), tmp_path / "coronal.nii")
    with pytest.warns(UHFWarning, match="another plane than those the model learnt"):
        quiet(tmp_path / "coronal.nii", tmp_path / "out", keeper)
    assert nibabel.load(tmp_path / "out" / "coronal.nii").shape == (40, 36, 1)
