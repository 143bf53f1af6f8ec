"""From nnU-Net's preprocessed grid back to a file in the geometry of the scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nnunet_uhf.imageio.restore import denormalise, restore_grid, write_image

SHAPE = (22, 26, 18)
STEPS = (1.0, 1.2, 2.0)
READERS = [SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient]
SPLINE = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def world_matrix(kind: str) -> NDArray[np.float64]:
    turn = {
        "plain": np.eye(3),
        "flipped": np.diag([-1.0, 1.0, -1.0]),
        "permuted": np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]),
        "oblique": np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]),
    }[kind]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(STEPS)
    affine[:3, 3] = (12.5, -40, 7)
    return affine


def brain(shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    """A smooth image with an asymmetric zero border, so that cropping has something to cut away."""
    image = 100 + 30 * gaussian_filter(np.random.default_rng(1).standard_normal(shape), 2, mode="wrap") / 0.05
    inside = np.zeros(shape, dtype=bool)
    inside[tuple(slice(2 + axis, n - 1 - axis) for axis, n in enumerate(shape))] = True
    return np.where(inside, image, 0).astype(np.float32)


def settings(
    *,
    transpose: tuple[int, int, int] = (0, 1, 2),
    spacing: tuple[float, ...] = (2.0, 1.2, 1.0),
    scheme: str = "NoNormalization",
    use_mask: bool = False,
) -> tuple[PlansManager, ConfigurationManager]:
    """Plans with nothing about probabilities in them: images must not be resampled as those are."""
    plans = {
        "transpose_forward": list(transpose),
        "transpose_backward": np.argsort(transpose).tolist(),
        "foreground_intensity_properties_per_channel": {"0": {}},
    }
    configuration = {
        "architecture": {},
        "spacing": list(spacing),
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [use_mask],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": SPLINE,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**SPLINE, "is_seg": True, "order": 1},
    }
    return PlansManager(plans), ConfigurationManager(configuration)


def preprocess(path: Path, reader: Any, managers: tuple[PlansManager, ConfigurationManager]) -> tuple[Any, Any, Any]:
    data, properties = reader().read_images([str(path)])
    return DefaultPreprocessor(verbose=False).run_case_npy(data, None, properties, *managers, {})


def save(path: Path, image: NDArray[np.float32], affine: NDArray[np.float64]) -> Path:
    nibabel.save(nibabel.Nifti1Image(image, affine), path)
    return path


def written(data: Any, path: Path, properties: dict[str, Any], *managers: Any) -> NDArray[np.float32]:
    """The restored volume, once it is written."""
    volume = restore_grid(data, properties, *managers)
    write_image(volume, path, properties)
    return volume


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("kind", ["plain", "flipped", "permuted", "oblique"])
@pytest.mark.parametrize("reader", READERS)
def test_without_resampling_the_file_comes_back_as_it_was(
    tmp_path: Path, reader: Any, kind: str, transpose: tuple[int, int, int]
) -> None:
    path = save(tmp_path / "in.nii.gz", brain(), world_matrix(kind))
    spacing = reader().read_images([str(path)])[1]["spacing"]
    managers = settings(transpose=transpose, spacing=tuple(spacing[axis] for axis in transpose))
    data, _, properties = preprocess(path, reader, managers)
    assert data.shape[1:] != tuple(np.array(SHAPE[::-1])[list(transpose)]), "nothing was cropped"
    written(data, tmp_path / "out.nii.gz", properties, *managers)
    before, after = nibabel.load(path), nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    np.testing.assert_allclose(after.get_fdata(), before.get_fdata(), rtol=1e-6)
    assert after.get_data_dtype() == np.float32
    np.testing.assert_allclose(after.header.get_zooms(), before.header.get_zooms(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["flipped", "permuted", "oblique"])
@pytest.mark.parametrize("reader", READERS)
def test_a_voxel_keeps_its_world_coordinates_for_nibabel_and_simpleitk(tmp_path: Path, reader: Any, kind: str) -> None:
    image = brain()
    index = (7, 11, 5)
    image[index] = 1000
    path = save(tmp_path / "in.nii.gz", image, world_matrix(kind))
    managers = settings(spacing=tuple(reader().read_images([str(path)])[1]["spacing"]))
    data, _, properties = preprocess(path, reader, managers)
    out = tmp_path / "out.nii.gz"
    written(data, out, properties, *managers)

    expected = nibabel.affines.apply_affine(world_matrix(kind), index)
    seen = nibabel.load(out)
    brightest = np.unravel_index(seen.get_fdata().argmax(), seen.shape)
    np.testing.assert_allclose(nibabel.affines.apply_affine(seen.affine, brightest), expected, atol=1e-4)
    itk = SimpleITK.ReadImage(str(out))
    array = SimpleITK.GetArrayFromImage(itk)
    place = [int(i) for i in np.unravel_index(array.argmax(), array.shape)][::-1]
    lps = np.array(itk.TransformIndexToPhysicalPoint(place))  # ITK's world is left-posterior-superior
    np.testing.assert_allclose(lps * [-1, -1, 1], expected, atol=1e-3)


@pytest.mark.parametrize("spacing", [(1.5, 1.0, 0.8), (2.0, 1.6, 1.3)])
def test_crop_and_resampling_are_undone_within_the_tolerance_of_interpolation(
    tmp_path: Path, spacing: tuple[float, ...]
) -> None:
    path = save(tmp_path / "in.nii.gz", brain(), world_matrix("flipped"))
    managers = settings(spacing=spacing)
    data, _, properties = preprocess(path, SimpleITKIO, managers)
    assert data.shape[1:] != properties["shape_after_cropping_and_before_resampling"]
    restored = written(data, tmp_path / "out.nii.gz", properties, *managers)
    truth = brain().transpose(2, 1, 0)
    assert restored.shape == truth.shape
    np.testing.assert_array_equal(restored == 0, truth == 0)  # the border was cropped away, not interpolated
    inside = truth != 0
    assert np.abs(restored - truth)[inside].mean() < 0.02 * truth[inside].std()


def test_the_cubic_resampling_of_images_is_used_and_a_half_voxel_is_not_lost(tmp_path: Path) -> None:
    """A parabola is reproduced by cubic splines, not by the linear resampling of probabilities."""
    axis = np.linspace(-1, 1, 30)
    parabola = (2 + axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :]).astype(np.float32)
    path = save(tmp_path / "in.nii.gz", parabola, np.eye(4))
    managers = settings(spacing=(1.25, 1.25, 1.25))
    data, _, properties = preprocess(path, SimpleITKIO, managers)
    restored = restore_grid(data, properties, *managers)
    core = (slice(5, -5),) * 3
    np.testing.assert_allclose(restored[core], parabola.transpose(2, 1, 0)[core], atol=1e-3)


def test_a_2d_configuration_keeps_the_slices_of_the_scan(tmp_path: Path) -> None:
    path = save(tmp_path / "in.nii.gz", brain(), world_matrix("plain"))
    managers = settings(spacing=(0.9, 0.8))
    data, _, properties = preprocess(path, SimpleITKIO, managers)
    restored = restore_grid(data, properties, *managers)
    truth = brain().transpose(2, 1, 0)
    assert restored.shape == truth.shape
    assert np.abs(restored - truth)[truth != 0].mean() < 0.02 * truth[truth != 0].std()


def test_a_single_2d_image_stays_2d(tmp_path: Path) -> None:
    flat = brain((30, 26))
    image = SimpleITK.GetImageFromArray(flat)
    image.SetSpacing((0.5, 0.7))
    image.SetOrigin((3, -4))
    path = tmp_path / "in.nii.gz"
    SimpleITK.WriteImage(image, str(path))
    managers = settings(spacing=(0.7, 0.5))
    data, _, properties = preprocess(path, SimpleITKIO, managers)
    written(data, tmp_path / "out.nii.gz", properties, *managers)
    after = SimpleITK.ReadImage(str(tmp_path / "out.nii.gz"))
    assert after.GetSpacing() == pytest.approx((0.5, 0.7))
    assert after.GetOrigin() == pytest.approx((3, -4))
    np.testing.assert_allclose(SimpleITK.GetArrayFromImage(after), flat, rtol=1e-6)


@pytest.mark.parametrize("use_mask", [False, True])
def test_denormalising_gives_back_the_intensities_and_a_background_of_zero(tmp_path: Path, use_mask: bool) -> None:
    image = brain()
    image[10, 10, :4] = 0  # a notch reaching the crop's border: background inside the crop
    image[10, 10, 4:8] = 0
    path = save(tmp_path / "in.nii.gz", image, world_matrix("flipped"))
    managers = settings(scheme="ZScoreNormalization", use_mask=use_mask)
    data, seg, properties = preprocess(path, SimpleITKIO, managers)
    mask = seg[0] >= 0
    region = image.transpose(2, 1, 0)[4:-3, 3:-2, 2:-1]
    values = region[mask] if use_mask else region
    restored = restore_grid(
        data, properties, *managers, mean=values.mean(), std=values.std(), mask=mask if use_mask else None
    )
    np.testing.assert_allclose(restored, image.transpose(2, 1, 0), atol=1e-2)
    assert (restored[image.transpose(2, 1, 0) == 0] == 0).all() or not use_mask


def test_denormalise_is_linear_and_refuses_senseless_numbers() -> None:
    np.testing.assert_allclose(denormalise(np.array([-1.0, 0, 2]), mean=10, std=4), [6, 10, 18])
    for mean, std in ((np.nan, 1), (0, 0), (0, -1), (0, np.inf)):
        with pytest.raises(ValueError, match="std"):
            denormalise(np.zeros(3), mean=mean, std=std)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "image.nii.gz", brain(), world_matrix("plain"))
    before = path.read_bytes()
    _, properties = SimpleITKIO().read_images([str(path)])

    def interrupted(image: Any, name: str, *args: Any) -> None:
        Path(name).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(SimpleITK, "WriteImage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_image(np.zeros(SHAPE[::-1]), path, properties)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_images_of_readers_without_geometry_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="natural image or TIFF"):
        write_image(np.zeros((1, 5, 5)), tmp_path / "photo.png", {"spacing": (999, 1, 1)})
    assert not list(tmp_path.iterdir())


def test_arrays_of_wrong_shape_are_refused_with_their_shape(tmp_path: Path) -> None:
    path = save(tmp_path / "in.nii.gz", brain(), world_matrix("plain"))
    managers = settings()
    data, _, properties = preprocess(path, SimpleITKIO, managers)
    with pytest.raises(ValueError, match=r"\(2, "):
        restore_grid(np.concatenate([data, data]), properties, *managers)
    with pytest.raises(ValueError, match="mask and image differ"):
        restore_grid(data, properties, *managers, mask=np.ones((3, 3, 3)))
    with pytest.raises(ValueError, match=r"\(5, 5\)"):
        write_image(np.zeros((5, 5)), tmp_path / "out.nii.gz", properties)
