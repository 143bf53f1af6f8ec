"""Folder of high-field scans and tissue maps -> folder of simulated low-field scans (`nnunet-uhf simulate`)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError
from nnunet_uhf.nifti_files import case_files
from nnunet_uhf.preprocessing.low_field.presets import Preset, find_preset, profile_for_ratio
from nnunet_uhf.preprocessing.low_field.simulator import LowFieldSimulator, target_image
from nnunet_uhf.preprocessing.low_field.slice_profile import SliceProfile, crop_to_multiple, slice_affine
from nnunet_uhf.preprocessing.low_field.tissues import (
    TISSUES,
    TissueLabels,
    TissueMaps,
    tissues_from_labels,
    tissues_from_probabilities,
)
from nnunet_uhf.preprocessing.nifti import (
    Volume,
    appearing_together,
    read_volume,
    require_same_grid,
    write_volume,
)

RECORD_NAME = "simulation.json"
DEFAULT_TISSUE_LABELS: TissueLabels = {"csf": 1, "gm": 2, "wm": 3}
# plane of the slices -> world axis that runs through them (nibabel's world is right, anterior, superior)
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
CHANNEL_SUFFIX = re.compile(r"_\d{4}$")


def simulate_folder(
    images: Path,
    output: Path,
    *,
    labels: Path,
    preset: str,
    ratio: int | None = 4,
    thickness: float | None = None,
    gap: float | None = None,
    axis: str = "axial",
    mode: Literal["native", "regrid"] = "regrid",
    fixed: Literal["gm", "wm"] = "gm",
    noise: Literal["gaussian", "rician"] = "gaussian",
    noise_scale: float = 1.0,
    noise_mask: Literal["everywhere", "brain"] = "everywhere",
    reject_outliers: bool = False,
    tissue_labels: TissueLabels = DEFAULT_TISSUE_LABELS,
    tissue_smoothing: float = 0.0,
    targets: Path | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> Path:
    """Simulate a low-field scan of every high-field scan in a folder.

    Output files have the names of the input files (.nii.gz). `simulation.json` beside them records every parameter
    and every draw; a case's draw depends on the seed and its name only, not on the other cases. The folders appear
    complete or not at all.

    Args:
        images: folder of skull-stripped 3D NIfTI files; a channel suffix (_0000) is allowed.
        output: new or empty folder.
        labels: folder with, for each case, a label map CASE.nii.gz or probability maps CASE_csf, CASE_gm, CASE_wm.
        preset: name of a preset or a JSON file of the same content.
        ratio: slice distance in voxels of the table of profiles; not used when thickness and gap are given.
        thickness: slice thickness in voxels of the input; give it together with `gap`.
        gap: slice gap in voxels of the input.
        axis: plane of the slices (`axial`, `coronal`, `sagittal`: the array axis nearest to its normal) or array
            axis `0`, `1`, `2`.
        mode: `native` (thick slices, the affine follows) or `regrid` (cubic spline back to the input grid).
        fixed: tissue that keeps its brightness.
        noise: `gaussian` or `rician`.
        noise_scale: factor on the noise, > 1 is noisier than the preset.
        noise_mask: `everywhere`, or `brain` for scans that are zero outside.
        reject_outliers: keep SNR draws inside the 95 % ellipse.
        tissue_labels: label values of csf, gm and wm in the label maps.
        tissue_smoothing: sigma in voxels by which label maps are softened, 0 leaves them hard.
        targets: new or empty folder for the targets (G + W + C) * I, cut to what the slices cover in `native`.
        seed: >= 0.
        console: shows a progress bar when given.

    Returns:
        Path of `simulation.json`.

    Raises:
        UHFError: one line on the file and what to do.
    """
    if seed < 0:
        raise UHFError(f"seed is {seed}: use a whole number >= 0")
    chosen = find_preset(preset)
    profile = _choose_profile(ratio, thickness, gap)
    simulator = LowFieldSimulator(
        snr=chosen.snr,
        profiles=(profile,),
        fixed=fixed,
        noise=noise,
        noise_scale=(noise_scale, noise_scale),
        noise_mask=noise_mask,
        grid=mode,
        reject_outliers=reject_outliers,
    )
    _check_axis(axis)
    files = case_files(images)
    tissue_files = {case: _find_tissues(case, path, labels) for case, path in files.items()}
    for case, path in files.items():
        for tissue_path in tissue_files[case].values():
            require_same_grid(path, tissue_path)

    record: dict[str, Any] = {
        "format": 1,
        "package_version": nnunet_uhf.__version__,
        "method": "SIQT stochastic low-field simulator (Lin et al., Medical Image Analysis 2023), re-implemented",
        "preset": _preset_record(chosen),
        "parameters": {
            "thickness": profile.thickness,
            "gap": profile.gap,
            "ratio": profile.ratio,
            "axis": axis,
            "mode": mode,
            "fixed": fixed,
            "noise": noise,
            "noise_scale": noise_scale,
            "noise_mask": noise_mask,
            "reject_outliers": reject_outliers,
            "tissue_labels": dict(tissue_labels),
            "tissue_smoothing": tissue_smoothing,
        },
        "seed": seed,
        "cases": {},
    }
    folders = (output,) if targets is None else (output, targets)
    with appearing_together(*folders) as staged:
        progress = files if console is None else track(files, description="simulating low field", console=console)
        for case in progress:
            image = read_volume(files[case])
            tissues = _read_tissues(tissue_files[case], tissue_labels, tissue_smoothing)
            record["cases"][case] = _simulate_case(
                simulator, image, tissues, case=case, axis=axis, seed=seed, staged=staged
            )
        (staged[0] / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return output / RECORD_NAME


def case_generator(seed: int, case: str) -> np.random.Generator:
    """Random generator of a case: a function of the seed and the case name alone."""
    digest = hashlib.sha256(case.encode("utf-8")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16], "big")])


def slice_axis(affine: np.ndarray[Any, np.dtype[np.float64]], axis: str) -> int:
    """Array axis of a slice plane's normal (or the axis itself when given as a number).

    Raises:
        UHFError: neither a plane nor 0, 1, 2.
    """
    _check_axis(axis)
    if axis not in PLANES:
        return int(axis)
    orientation = nib.io_orientation(affine)[:, 0]
    return int(np.flatnonzero(orientation == PLANES[axis])[0])


def _simulate_case(
    simulator: LowFieldSimulator,
    image: Volume,
    tissues: TissueMaps,
    *,
    case: str,
    axis: str,
    seed: int,
    staged: tuple[Path, ...],
) -> dict[str, Any]:
    """Draw, apply and write one case; what was drawn is returned for the record."""
    simulator = dataclasses.replace(simulator, axes=(slice_axis(image.affine, axis),))
    draw = simulator.draw(case_generator(seed, case))
    try:
        result = simulator.apply(image.data, tissues, draw)
    except UHFError as error:
        raise UHFError(f"{image.path}: {error}") from error
    affine, target = image.affine, target_image(image.data, tissues)
    if simulator.grid == "native":
        affine = slice_affine(image.affine, ratio=draw.profile.ratio, axis=draw.axis)
        target = crop_to_multiple(target, ratio=draw.profile.ratio, axis=draw.axis)
    name = f"{case}.nii.gz"
    write_volume(staged[0] / name, result.image, affine, header=image.header)
    if len(staged) > 1:
        write_volume(staged[1] / name, target, image.affine, header=image.header)
    return {
        "file": name,
        "draw": dataclasses.asdict(draw),
        "noise_sigma": result.noise_sigma,
        "tissue_means": result.means._asdict(),
        "tissue_scale": result.tissue_scale,
        "shape": list(result.image.shape),
    }


def _choose_profile(ratio: int | None, thickness: float | None, gap: float | None) -> SliceProfile:
    """Explicit thickness and gap, else the table's for the ratio."""
    if thickness is not None and gap is not None:
        return SliceProfile(thickness=thickness, gap=gap)
    if thickness is not None or gap is not None:
        raise UHFError("slice thickness and gap belong together: give both, or the ratio alone")
    if ratio is None:
        raise UHFError("the slices are not described: give a ratio, or thickness and gap")
    return profile_for_ratio(ratio)


def _check_axis(axis: str) -> None:
    """A plane or an array axis of a 3D image."""
    if axis not in (*PLANES, "0", "1", "2"):
        raise UHFError(f"slice axis is {axis!r}: use {', '.join(PLANES)}, or an array axis 0, 1, 2")


def _find_tissues(case: str, image: Path, labels: Path) -> dict[str, Path]:
    """The label map ("labels") or the three probability maps of a case."""
    if not labels.is_dir():
        raise UHFError(f"{labels} is not a folder: name the folder that holds the tissue label maps")
    names = dict.fromkeys([case, CHANNEL_SUFFIX.sub("", case)])
    for name in names:
        if (found := _file_of(labels, name)) is not None:
            return {"labels": found}
    for name in names:
        maps = {tissue: _file_of(labels, f"{name}_{tissue}") for tissue in TISSUES}
        complete = {tissue: path for tissue, path in maps.items() if path is not None}
        if len(complete) == len(TISSUES):
            return complete
        if complete:
            missing = next(tissue for tissue in TISSUES if tissue not in complete)
            raise UHFError(f"{labels} holds some probability maps of {name} but no {name}_{missing}.nii.gz: add it")
    raise UHFError(f"{labels} holds no tissue labels {case}.nii.gz for {image}: add them or remove the image")


def _file_of(folder: Path, name: str) -> Path | None:
    """NAME.nii.gz or NAME.nii in a folder."""
    candidates = (folder / f"{name}.nii.gz", folder / f"{name}.nii")
    return next((path for path in candidates if path.is_file()), None)


def _read_tissues(files: Mapping[str, Path], mapping: TissueLabels, smoothing: float) -> TissueMaps:
    """Tissue maps of one case."""
    arrays = {name: read_volume(path).data for name, path in files.items()}
    try:
        if "labels" in arrays:
            return tissues_from_labels(arrays["labels"], mapping, smoothing=smoothing)
        return tissues_from_probabilities(**arrays)
    except UHFError as error:
        raise UHFError(f"{next(iter(files.values()))}: {error}") from error


def _preset_record(preset: Preset) -> dict[str, Any]:
    """The preset as JSON, numbers and source."""
    record = dataclasses.asdict(preset)
    return {**record.pop("snr"), **record}
