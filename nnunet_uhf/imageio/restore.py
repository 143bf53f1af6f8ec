"""From an image on nnU-Net's preprocessed grid back to a NIfTI file in the geometry of the scan it came from.

nnU-Net transposes, crops to the nonzero region, normalises and resamples, in that order; this module
undoes it in reverse order for a continuous image, which nnU-Net itself does only for segmentations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray

from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.types import FloatArray


def denormalise(image: NDArray[Any] | torch.Tensor, *, mean: float, std: float) -> FloatArray:
    """``image * std + mean``: normalised values to intensities of the target image, float32, any shape."""
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        raise ValueError(f"mean must be finite and std finite and above 0, got mean={mean}, std={std}")
    return np.asarray(_to_numpy(image) * np.float32(std) + np.float32(mean), dtype=np.float32)


def restore_grid(
    image: NDArray[Any] | torch.Tensor,
    properties: dict[str, Any],
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    mask: NDArray[Any] | None = None,
    fill: float = 0.0,
) -> FloatArray:
    """Image (*S) or (1, *S) of the preprocessed grid -> intensities (z, y, x) on the grid of the scan.

    ``mean``/``std`` denormalise (see :func:`denormalise`). Voxels outside the crop, and outside ``mask`` (*S,
    true inside; the preprocessed segmentation's ``seg >= 0`` when normalisation used the nonzero mask) get
    ``fill``: the normalised 0 outside a mask is a convention of nnU-Net, not an intensity.

    Resampling uses ``resampling_fn_data``, the (cubic, slice-wise when anisotropic) one that preprocessing
    used, and not ``resampling_fn_probabilities``: that one is linear, made for class scores, and would blur
    an image. It runs before the denormalisation, where the jump at the edge of a mask is smallest and rings
    least.
    """
    volume = _to_numpy(image)
    volume = volume if volume.ndim == 4 else volume[None]
    if volume.ndim != 4 or volume.shape[0] != 1:
        raise ValueError(f"expected an image of shape (1, Z, Y, X) or (Z, Y, X), got {tuple(image.shape)}")
    if mask is not None and mask.shape != volume.shape[1:]:
        raise ValueError(f"mask and image differ in shape: {mask.shape} and {volume.shape[1:]}")

    shape = tuple(int(n) for n in properties["shape_after_cropping_and_before_resampling"])
    original_spacing = [properties["spacing"][axis] for axis in plans_manager.transpose_forward]
    spacing = list(configuration_manager.spacing)
    if len(spacing) < len(shape):  # 2d configurations keep the slices of the scan
        spacing = [original_spacing[0], *spacing]
    cropped = configuration_manager.resampling_fn_data(volume, shape, spacing, original_spacing)
    cropped = denormalise(_to_numpy(cropped)[0], mean=mean, std=std)
    if mask is not None:
        labels = np.asarray(mask, dtype=np.int8)[None]
        inside = configuration_manager.resampling_fn_seg(labels, shape, spacing, original_spacing)
        cropped = np.where(np.asarray(inside)[0] > 0, cropped, np.float32(fill))

    full = np.full(properties["shape_before_cropping"], fill, dtype=np.float32)
    full = insert_crop_into_image(full, cropped, properties["bbox_used_for_cropping"])
    return np.ascontiguousarray(full.transpose(plans_manager.transpose_backward))


def write_image(volume: NDArray[Any], path: str | Path, properties: dict[str, Any]) -> Path:
    """Write ``volume`` (z, y, x) from :func:`restore_grid` as float32 with the geometry in ``properties``.

    The file appears whole or not at all. Supported are the images read by nnU-Net's SimpleITK and nibabel
    readers, with and without reorientation; NotImplementedError for those of other readers (natural images,
    TIFF), which hold integer colours and no geometry.
    """
    path = Path(path)
    volume = np.asarray(volume, dtype=np.float32)
    if volume.ndim != 3:
        raise ValueError(f"expected a volume (z, y, x), got shape {volume.shape}")
    if "sitk_stuff" in properties:
        write = _write_with_simpleitk
    elif "nibabel_stuff" in properties:
        write = _write_with_nibabel
    else:
        raise NotImplementedError(
            f"cannot write {path.name}: it was read by a reader without scanner geometry (natural image or "
            "TIFF); use a dataset of NIfTI files read by SimpleITKIO or NibabelIO"
        )
    with written_whole(path) as temporary:
        write(volume, temporary, properties)
    return path


def _write_with_simpleitk(volume: FloatArray, path: Path, properties: dict[str, Any]) -> None:
    geometry = properties["sitk_stuff"]
    if len(geometry["spacing"]) == 2:
        volume = volume[0]
    image = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing(geometry["spacing"])
    image.SetOrigin(geometry["origin"])
    image.SetDirection(geometry["direction"])
    if "original_orientation" in geometry:
        image = SimpleITK.DICOMOrient(image, geometry["original_orientation"])
    SimpleITK.WriteImage(image, str(path), True)


def _write_with_nibabel(volume: FloatArray, path: Path, properties: dict[str, Any]) -> None:
    geometry = properties["nibabel_stuff"]
    original = np.asarray(geometry["original_affine"])
    image = nibabel.Nifti1Image(volume.transpose((2, 1, 0)), geometry.get("reoriented_affine", original))
    if "reoriented_affine" in geometry:
        image = image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), io_orientation(original)))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _to_numpy(image: NDArray[Any] | torch.Tensor) -> NDArray[Any]:
    if isinstance(image, torch.Tensor):
        image = image.detach().to("cpu", torch.float32).numpy()
    return np.asarray(image, dtype=np.float32)
