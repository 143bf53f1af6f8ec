"""What a keeper says of an image in memory: its feature maps, and the high-field-like image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from numpy.typing import NDArray

from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import MatchError, UHFError, UHFWarning
from nnunet_uhf.guidance.matching import SPACING_TOLERANCE
from nnunet_uhf.imageio.files import check_nifti_header
from nnunet_uhf.imageio.restore import denormalise
from nnunet_uhf.inference.orientation import not_turned, turn_of
from nnunet_uhf.inference.predictor import ImagePredictor
from nnunet_uhf.inference.preprocess import managers, preprocess_image
from nnunet_uhf.inference.thick_scans import stretch_of
from nnunet_uhf.keepers.file import KeeperFile, KeeperHeader, build_enhancer, build_keeper, read_keeper
from nnunet_uhf.types import FloatArray, Mask


class FeatureMaps(NamedTuple):
    """An image and what a keeper makes of it.

    ``image``: as the keeper saw it ``(*S)``. ``maps``: finest first, ``(C_l, *S_l)`` each. Of a 2D keeper and a volume
    ``(Z, Y, X)`` every slice has maps of its own: ``(C_l, Z, Y_l, X_l)``.

    Examples:
        >>> import numpy as np
        >>> from nnunet_uhf import feature_maps, write_untrained_keeper
        >>> keeper = write_untrained_keeper("keeper.safetensors", dim=2)
        >>> image, maps = feature_maps(np.eye(32), keeper)
        >>> image.shape, maps[0].shape
        ((32, 32), (4, 32, 32))
    """

    image: FloatArray
    maps: tuple[FloatArray, ...]


def feature_maps(
    image: str | Path | NDArray[np.number],
    keeper: str | Path | KeeperFile,
    *,
    spacing_mm: Sequence[float] | None = None,
    normalised: bool = False,
    patch: bool = False,
    device: torch.device | str = "cpu",
) -> FeatureMaps:
    """Feature maps that a keeper makes of a scan.

    A NIfTI file is turned to the orientation of the keeper's training and preprocessed as nnU-Net would for the keeper:
    axes, crop to what is not zero, normalisation, spacing. An array is taken to be in the keeper's axes and at its
    spacing (``read_header`` tells them: ``transpose_forward`` of the ``(Z, Y, X)`` that SimpleITK reads of a file
    stored in ``orientation``, and ``spacing_mm``), and is normalised only.

    Args:
        image: path of a single-channel 3D NIfTI image, or an array ``(Z, Y, X)``, for a 2D keeper ``(Y, X)`` as well.
        keeper: a keeper file's path, or what ``read_keeper`` gave (for many images, read once).
        spacing_mm: of the array's axes; given, it is held against the keeper's.
        normalised: the array has the keeper's normalisation already (z-scores, mostly); else it has raw intensities.
        patch: only the central patch, as large as those of the keeper's training: less memory, and what instance
            normalisation saw there. Else the whole image at once.
        device: where to run the keeper.

    Raises:
        KeeperFileError: no usable keeper file, or a keeper that cannot guide.
        MatchError: an array of other axes than the keeper takes, or a spacing that differs from its by more than 10 %.
        UHFError: a file that is no single-channel 3D image, an array without contrast or with NaN, an absent device.

    Examples:
        >>> import numpy as np
        >>> from nnunet_uhf import feature_maps, write_untrained_keeper
        >>> image = np.random.default_rng(0).uniform(0, 100, (3, 40, 32))
        >>> keeper = write_untrained_keeper("keeper.safetensors", dim=2)  # in earnest: one that was trained
        >>> found = feature_maps(image, keeper)
        >>> [one.shape for one in found.maps]
        [(4, 3, 40, 32), (4, 3, 20, 16), (4, 3, 10, 8), (4, 3, 5, 4), (4, 3, 2, 2)]
        >>> bool(abs(found.image.mean()) < 1e-4)  # what the keeper saw: z-scores
        True
    """
    file = _of_one_channel(keeper)
    header, device = file.header, checked_device(device)
    network = build_keeper(file).to(device)
    seen = (
        _read(header, Path(image)) if isinstance(image, str | Path) else _seen(header, image, spacing_mm, normalised)[0]
    )
    if patch:
        seen = _central(seen, header.patch_size)
    with torch.inference_mode():
        batch = torch.from_numpy(np.ascontiguousarray(seen))
        if batch.ndim == header.dim:
            maps = [one[0] for one in network(batch[None, None].to(device))]
        else:
            slices = [network(one[None, None].to(device)) for one in batch]
            maps = [torch.stack([each[0] for each in level], dim=1) for level in zip(*slices, strict=True)]
    return FeatureMaps(seen, tuple(one.cpu().numpy() for one in maps))


def enhance_array(
    image: NDArray[np.number],
    keeper: str | Path | KeeperFile,
    *,
    spacing_mm: Sequence[float] | None = None,
    normalised: bool = False,
    device: torch.device | str = "cpu",
) -> FloatArray:
    """The high-field-like image of an array, on its grid and in the target's typical intensities.

    An estimate by a network: structures may be missing or invented. Files are enhanced by ``enhance``, which brings
    them to the keeper's axes and spacing and notes beside each image what it is.

    Args:
        image: ``(Z, Y, X)``, for a 2D keeper ``(Y, X)`` as well, in the keeper's axes and at its spacing.
        keeper: path of a keeper file with decoder, or what ``read_keeper`` gave.
        spacing_mm: as in :func:`feature_maps`, as is ``normalised``.
        normalised: the array has the keeper's normalisation already.
        device: where to run.

    Returns:
        ``(*S)``, float32; 0 outside the head where the keeper's normalisation is of the voxels that are not 0.

    Raises:
        KeeperFileError: no usable keeper file, or one without decoder.
        MatchError: an array of other axes than the keeper takes, or a spacing that differs from its by more than 10 %.
        UHFError: an array without contrast or with NaN, a model of thick slices (enhance files by it), no such device.

    Examples:
        >>> import numpy as np
        >>> from nnunet_uhf import enhance_array, write_untrained_keeper
        >>> image = np.random.default_rng(0).uniform(0, 100, (24, 40, 32))
        >>> keeper = write_untrained_keeper("keeper.safetensors", dim=3)  # in earnest: one that was trained
        >>> enhance_array(image, keeper).shape
        (24, 40, 32)
    """
    file = _of_one_channel(keeper)
    header = file.header
    if any(step != 1 for step in stretch_of(header)):
        raise UHFError(f"{file.path} is a model of thick slices, whose grid an array does not tell: enhance the files")
    seen, mask = _seen(header, image, spacing_mm, normalised)
    predictor = ImagePredictor(device=checked_device(device))
    predictor.set_network(build_enhancer(file), managers(header)[1])
    volume = torch.from_numpy(np.ascontiguousarray(seen)).reshape(1, *(1,) * (3 - seen.ndim), *seen.shape)
    intensity = header.target_intensity
    enhanced = denormalise(predictor.predict_image(volume), mean=intensity["mean"], std=intensity["std"])
    return np.where(mask, enhanced.reshape(seen.shape), np.float32(0))


def _of_one_channel(keeper: str | Path | KeeperFile) -> KeeperFile:
    file = keeper if isinstance(keeper, KeeperFile) else read_keeper(keeper)
    if len(file.header.inputs) > 1:
        raise MatchError(
            f"{file.path} reads {len(file.header.inputs)} images together, but here is one: enhance the files, or call "
            "the network of load_keeper"
        )
    return file


def _read(header: KeeperHeader, path: Path) -> FloatArray:
    check_nifti_header(path, dim=header.dim)
    note = not_turned(header)
    if note is not None:
        warnings.warn(f"{path}: {note}", UHFWarning, stacklevel=3)
    data, _, _ = preprocess_image((path,), *managers(header), turn=turn_of(header, path))
    return data[0]


def _seen(
    header: KeeperHeader, image: NDArray[np.number], spacing_mm: Sequence[float] | None, normalised: bool
) -> tuple[FloatArray, Mask]:
    """The array as the keeper sees it, and where it counts."""
    array = np.asarray(image, dtype=np.float32)
    if array.ndim not in {header.dim, 3}:
        axes = "(Z, Y, X)" if header.dim == 3 else "(Y, X) or (Z, Y, X)"
        raise MatchError(f"the array has shape {array.shape}, but a {header.dim}D keeper takes {axes}: cut it so")
    _check_spacing(header, spacing_mm)
    if not np.isfinite(array).all():
        raise UHFError("the array holds NaN or infinite intensities: replace them")
    if not array.max() > array.min():
        raise UHFError("the array has one intensity everywhere: give a scan")
    # nnU-Net's normalisation within a mask leaves zeros outside of it, so that normalised arrays tell it as well
    mask = create_nonzero_mask(array[None]) if header.use_mask_for_norm else np.ones(array.shape, dtype=bool)
    if normalised:
        return array, mask
    inside = np.where(mask, np.int8(0), np.int8(-1))[None]
    preprocessor, configuration = DefaultPreprocessor(verbose=False), managers(header)[1]
    try:
        data = preprocessor._normalize(array[None].copy(), inside, configuration, {"0": {}})
    except (KeyError, RuntimeError) as error:
        raise UHFError(
            f"the keeper's normalisation {header.normalisation} needs what a keeper does not carry: normalise the "
            "array yourself (normalised=True)"
        ) from error
    return data[0], mask


def _check_spacing(header: KeeperHeader, spacing_mm: Sequence[float] | None) -> None:
    if spacing_mm is None:
        return
    # of a volume for a 2D keeper the first axis is that of the slices, which it does not look across
    pairs = list(zip(reversed(spacing_mm), reversed(header.spacing_mm), strict=False))
    fits = len(spacing_mm) >= header.dim and min(spacing_mm) > 0
    if not fits or any(max(ours / its, its / ours) > SPACING_TOLERANCE for ours, its in pairs):
        raise MatchError(
            f"the array has a spacing of {tuple(spacing_mm)} mm, the keeper {header.spacing_mm} mm: resample it, "
            "or give the NIfTI file, which is resampled here"
        )


def _central(image: FloatArray, patch_size: tuple[int, ...]) -> FloatArray:
    """The middle of the image, of the patch's size or what there is of it; of all slices for a 2D patch."""
    sizes = (*image.shape[: image.ndim - len(patch_size)], *patch_size)
    starts = [max(0, (length - size) // 2) for length, size in zip(image.shape, sizes, strict=True)]
    return image[tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))]
