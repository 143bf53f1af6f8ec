"""``nnunet-uhf normalise``: scans of one contrast and field strength on one standard intensity scale."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.label_maps import inside
from nnunet_uhf.imageio.nifti import Volume, read_volume, require_same_grid, write_volume
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.imageio.stripped import require_stripped
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.types import FloatArray

Foreground = Literal["nonzero", "above-mean"]
RECORD_NAME = "landmarks.json"
METHOD = "Nyul et al. 2000, landmarks of SIQT (Lin et al., Medical Image Analysis 2023)"


def normalise_folder(
    images: Path,
    output: Path,
    *,
    masks: Path | None = None,
    landmarks: Path | None = None,
    foreground: Foreground = "nonzero",
    console: Console | None = None,
) -> Path:
    """Write every scan of a folder on the standard scale, and the scale itself as `landmarks.json`.

    Args:
        images: folder of 3D NIfTI scans of one contrast and field strength, skull-stripped unless `masks` are given.
        output: new folder; it appears complete or not at all.
        masks: folder of brain masks of the same names and grids; by default the nonzero voxels. Outside stays as it
            is where it is 0, and becomes 0 where it is not.
        foreground: whose voxels the histograms are of: all in the brain (`nonzero`), or those of them above the mean of
            the whole image (`above-mean`), which are the original's where nobody gives it a mask.
        landmarks: a `landmarks.json` learnt on other scans (the training's); by default it is learnt on these.
        console: shows a progress bar when given.

    Returns:
        The path of `landmarks.json`.

    Raises:
        UHFError: no scans, missing masks, another grid, a scan without contrast, a damaged landmarks file.
    """
    files = case_files(images)
    brains = {} if masks is None else case_files(masks)
    missing = sorted(files.keys() - brains.keys()) if masks is not None else []
    if missing:
        raise UHFError(f"{masks} has no mask for case {missing[0]}: add it, or leave out --masks")
    for case, path in brains.items():
        if case in files:
            require_same_grid(files[case], path)
    known = None if landmarks is None else read_landmarks(landmarks)
    with appearing_together(output) as (staged,):
        histograms: dict[str, Landmarks] = {}
        for case in _shown(list(files), console, "reading histograms"):
            image = read_volume(files[case])
            brain = _brain(image, brains.get(case))
            counted = brain & (image.data > image.data.mean()) if foreground == "above-mean" else brain
            try:
                histograms[case] = landmarks_of(image.data[counted])
            except UHFError as error:
                raise UHFError(f"{files[case]}: {error}") from error
        scale = learn_scale(histograms.values()) if known is None else known
        for case in _shown(list(files), console, "normalising"):
            image = read_volume(files[case])
            brain = _brain(image, brains.get(case))
            changed = np.where(brain, to_scale(image.data, histograms[case], scale), np.float32(0))
            write_volume(staged / f"{case}.nii.gz", changed, header=image.header)
        record = {
            "format": 1,
            "package_version": nnunet_uhf.__version__,
            "method": METHOD,
            "voxels": foreground,
            "percentiles": list(PERCENTILES),
            "scale": scale.tolist(),
            "learnt_on": sorted(files) if known is None else f"another folder: {landmarks}",
        }
        (staged / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return output / RECORD_NAME


def read_landmarks(path: Path) -> Landmarks:
    """The scale in a `landmarks.json`; UHFError when it is none."""
    advice = "give a landmarks.json of nnunet-uhf normalise"
    content = read_json(path, advice=advice)
    try:
        scale = np.array(content["scale"], dtype=np.float64)
        fits = content["percentiles"] == list(PERCENTILES) and scale.shape == (len(PERCENTILES),)
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits or not np.isfinite(scale).all() or not (np.diff(scale) > 0).all():
        raise UHFError(f"{path} holds no increasing scale of {len(PERCENTILES)} landmarks; {advice}")
    return scale


def _brain(image: Volume, mask: Path | None) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Voxels of the mask, or of a skull-stripped scan those that are not zero; UHFError for another scan."""
    if mask is not None:
        return inside(read_volume(mask).data)
    require_stripped(image)
    return np.asarray(image.data != 0)


def _shown(cases: list[str], console: Console | None, what: str) -> list[str]:
    return cases if console is None else list(track(cases, description=what, console=console))


Landmarks = npt.NDArray[np.float64]


PERCENTILES = (1, *range(10, 100, 10), 99)


SCALE = (1.0, 100.0)


def landmarks_of(values: npt.NDArray[np.number]) -> Landmarks:
    """The percentiles `(11,)` of a scan's voxels `(N,)`, any unit.

    Raises:
        UHFError: no voxels, or percentiles that do not increase: many voxels of one value.
    """
    if values.size == 0:
        raise UHFError("there is no voxel to take a histogram of")
    landmarks = np.percentile(values.astype(np.float64), PERCENTILES)
    if not (np.diff(landmarks) > 0).all():
        raise UHFError(
            "too many voxels have the same intensity for a histogram: was the scan cut off or rounded, "
            "or is it not skull-stripped (--masks)?"
        )
    return landmarks


def learn_scale(landmarks: Iterable[Landmarks]) -> Landmarks:
    """The standard landmarks `(11,)`: the mean over scans, each brought to 1 .. 100 by its own outer landmarks."""
    low, high = SCALE
    rescaled = [low + (high - low) * (one - one[0]) / (one[-1] - one[0]) for one in landmarks]
    return np.asarray(np.mean(rescaled, axis=0), dtype=np.float64)


def to_scale(image: npt.NDArray[np.number], landmarks: Landmarks, scale: Landmarks) -> FloatArray:
    """The image, any shape, with its landmarks moved to the standard ones.

    Linear in between, and beyond the outer ones with the slope of the outermost part, so that bright vessels stay
    bright; monotone, so that the order of intensities stays.
    """
    values = np.asarray(image, dtype=np.float64)
    inner = np.interp(values, landmarks, scale)
    slopes = np.diff(scale) / np.diff(landmarks)
    below = scale[0] + slopes[0] * (values - landmarks[0])
    above = scale[-1] + slopes[-1] * (values - landmarks[-1])
    outer = np.where(values < landmarks[0], below, np.where(values > landmarks[-1], above, inner))
    return outer.astype(np.float32)
