"""Folder of high-field scans and tissue maps -> folder of simulated low-field scans (`nnunet-uhf simulate`)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.nifti import Volume, read_volume, write_volume
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.imageio.planes import check_axis, slice_axis
from nnunet_uhf.preprocessing.low_field.presets import LowFieldPreset
from nnunet_uhf.preprocessing.low_field.simulator import LowFieldSimulator, TissueMeans, target_image
from nnunet_uhf.preprocessing.low_field.slice_profile import crop_to_multiple, slice_affine
from nnunet_uhf.preprocessing.low_field.tissue_source import TissueSource
from nnunet_uhf.preprocessing.low_field.tissues import TissueMaps
from nnunet_uhf.seeds import case_generator

RECORD_NAME = "simulation.json"
SIMULATED = "SIMULATED"
"""How the description in the header of a simulated scan begins."""
MOST_NEGATIVE = 0.05  # of the voxels; interpolation leaves a few below 0 at edges


def simulate_folder(
    images: Path,
    output: Path,
    simulator: LowFieldSimulator,
    tissues: TissueSource,
    *,
    preset: LowFieldPreset,
    axis: str = "axial",
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
        simulator: how scans are made, with the preset's SNR, one slice profile and one factor on the noise. Its axes
            count for nothing: `axis` says which one it is in each file. With the grid `native` the affine follows.
        tissues: where the tissue maps of each scan come from.
        preset: whose SNR the simulator has, for the record.
        axis: plane of the slices (`axial`, `coronal`, `sagittal`: the array axis nearest to its normal) or array
            axis `0`, `1`, `2`.
        targets: new or empty folder for the targets (G + W + C) * I, cut to what the slices cover in `native`.
        seed: >= 0.
        console: shows a progress bar when given.

    Returns:
        Path of `simulation.json`.

    Raises:
        UHFError: one line on the file and what to do.
        ValueError: a simulator of another SNR than the preset's, of several profiles or of a range of noise.
    """
    if seed < 0:
        raise UHFError(f"seed is {seed}: use a whole number >= 0")
    check_axis(axis)
    files = case_files(images)
    tissue_files = {case: tissues.files(case, path) for case, path in files.items()}
    record: dict[str, Any] = {
        "format": 1,
        "package_version": nnunet_uhf.__version__,
        "method": "SIQT stochastic low-field simulator (Lin et al., Medical Image Analysis 2023), re-implemented",
        "preset": _preset_record(preset),
        "parameters": {**_parameters(simulator, preset, axis=axis), **tissues.record()},
        "seed": seed,
        "cases": {},
    }
    folders = (output,) if targets is None else (output, targets)
    with appearing_together(*folders) as staged:
        progress = files if console is None else track(files, description="simulating low field", console=console)
        for case in progress:
            image = read_volume(files[case])
            maps = tissues.read(tissue_files[case], image)
            means = tissues.means(image, maps)
            record["cases"][case] = _simulate_case(
                simulator, image, maps, means=means, case=case, axis=axis, seed=seed, staged=staged, preset=preset
            )
        (staged[0] / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return output / RECORD_NAME


def _parameters(simulator: LowFieldSimulator, preset: LowFieldPreset, *, axis: str) -> dict[str, Any]:
    """The simulator as JSON; ValueError where one number for all cases would not be true."""
    (low, high), profiles = simulator.noise_scale, simulator.profiles
    if simulator.snr != preset.snr or len(profiles) != 1 or low != high:
        raise ValueError("a folder is simulated with the SNR of its preset, one slice profile and one noise scale")
    return {
        "thickness": profiles[0].thickness,
        "gap": profiles[0].gap,
        "ratio": profiles[0].ratio,
        "axis": axis,
        "mode": simulator.grid,
        "fixed": simulator.fixed,
        "noise": simulator.noise,
        "noise_scale": low,
        "noise_mask": simulator.noise_mask,
        "reject_outliers": simulator.reject_outliers,
        "artefacts": dataclasses.asdict(simulator.artefacts) if simulator.artefacts.enabled else None,
    }


def _simulate_case(
    simulator: LowFieldSimulator,
    image: Volume,
    tissues: TissueMaps,
    *,
    means: TissueMeans | None,
    case: str,
    axis: str,
    seed: int,
    staged: tuple[Path, ...],
    preset: LowFieldPreset,
) -> dict[str, Any]:
    """Draw, apply and write one case; what was drawn is returned for the record."""
    _require_raw(image)
    simulator = dataclasses.replace(simulator, axes=(slice_axis(image.affine, axis),))
    draw = simulator.draw(case_generator(seed, case))
    try:
        result = simulator.apply(image.data, tissues, draw, means=means)
    except UHFError as error:
        raise UHFError(f"{image.path}: {error}") from error
    step, target = None, target_image(image.data, tissues)
    if simulator.grid == "native":
        step = slice_affine(np.eye(4), ratio=draw.profile.ratio, axis=draw.axis)
        target = crop_to_multiple(target, ratio=draw.profile.ratio, axis=draw.axis)
    name = f"{case}.nii.gz"
    header = image.header.copy()
    header["descrip"] = f"{SIMULATED} {preset.field_tesla:g} T {preset.contrast}, nnunet-uhf".encode()[:79]
    write_volume(staged[0] / name, result.image, header=header, step=step)
    if len(staged) > 1:
        write_volume(staged[1] / name, target, header=image.header)
    return {
        "file": name,
        "draw": dataclasses.asdict(draw),
        "noise_sigma": result.noise_sigma,
        "tissue_means": result.means._asdict(),
        "tissue_scale": result.tissue_scale,
        "shape": list(result.image.shape),
    }


def _require_raw(image: Volume) -> None:
    """UHFError for what is no magnitude image: one value everywhere, or many below 0, as z-scores have."""
    if image.data.min() == image.data.max():
        raise UHFError(f"{image.path} has the same intensity everywhere: there is no image in it")
    negative = float((image.data < 0).mean())
    if negative > MOST_NEGATIVE:
        share = f"{100 * negative:.0f} % of its voxels"
        raise UHFError(f"{image.path} is below 0 in {share}: the simulator needs raw intensities, not z-scores")


def _preset_record(preset: LowFieldPreset) -> dict[str, Any]:
    """The preset as JSON, numbers and source."""
    record = dataclasses.asdict(preset)
    return {**record.pop("snr"), **record}
