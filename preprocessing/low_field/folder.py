"""Folder of high-field scans and tissue maps -> folder of simulated low-field scans (`nnunet-uhf simulate`)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.nifti import Volume, read_volume, write_volume
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.imageio.planes import check_axis, slice_axis
from nnunet_uhf.preprocessing.low_field.artefacts import Artefacts
from nnunet_uhf.preprocessing.low_field.mixture import T1W_BRIGHTNESS
from nnunet_uhf.preprocessing.low_field.presets import Preset, find_preset, profile_for_ratio
from nnunet_uhf.preprocessing.low_field.simulator import LowFieldSimulator, TissueMeans, target_image
from nnunet_uhf.preprocessing.low_field.slice_profile import SliceProfile, crop_to_multiple, slice_affine
from nnunet_uhf.preprocessing.low_field.tissue_source import TissueKind, TissueSource
from nnunet_uhf.preprocessing.low_field.tissues import TissueLabels, TissueMaps
from nnunet_uhf.seeds import case_generator

RECORD_NAME = "simulation.json"
MOST_NEGATIVE = 0.05  # of the voxels; interpolation leaves a few below 0 at edges
DEFAULT_TISSUE_LABELS: TissueLabels = {"csf": 1, "gm": 2, "wm": 3}


def simulate_folder(
    images: Path,
    output: Path,
    *,
    labels: Path | None,
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
    artefacts: Artefacts | None = None,
    tissues: TissueKind = "labels",
    tissue_labels: TissueLabels = DEFAULT_TISSUE_LABELS,
    tissue_smoothing: float = 0.0,
    masks: Path | None = None,
    brightness: tuple[str, ...] = T1W_BRIGHTNESS,
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
        labels: folder with, for each case, a label map CASE.nii.gz or probability maps CASE_csf, CASE_gm, CASE_wm;
            None when `tissues` is `gmm`.
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
        artefacts: bias field, motion and spikes; none by default.
        tissues: `labels` (in the numbers of `tissue_labels`, or probability maps), `freesurfer` (label maps in
            FreeSurfer's numbers) or `gmm` (mixture of three Gaussians in the brain, seeded with `seed`).
        tissue_labels: label values of csf, gm and wm in the label maps.
        tissue_smoothing: sigma in voxels by which label maps are softened, 0 leaves them hard.
        masks: folder of brain masks CASE.nii.gz for `gmm`; without it the brain is what is not zero.
        brightness: tissues from the darkest to the brightest, for `gmm`.
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
        artefacts=artefacts or Artefacts(),
    )
    check_axis(axis)
    files = case_files(images)
    source = TissueSource(
        kind=tissues,
        folder=labels,
        numbers=tissue_labels,
        smoothing=tissue_smoothing,
        masks=masks,
        brightness=brightness,
        seed=seed,
    )
    tissue_files = {case: source.files(case, path) for case, path in files.items()}

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
            "artefacts": dataclasses.asdict(simulator.artefacts) if simulator.artefacts.enabled else None,
            **source.record(),
        },
        "seed": seed,
        "cases": {},
    }
    folders = (output,) if targets is None else (output, targets)
    with appearing_together(*folders) as staged:
        progress = files if console is None else track(files, description="simulating low field", console=console)
        for case in progress:
            image = read_volume(files[case])
            maps = source.read(tissue_files[case], image)
            means = source.means(image, maps)
            record["cases"][case] = _simulate_case(
                simulator, image, maps, means=means, case=case, axis=axis, seed=seed, staged=staged
            )
        (staged[0] / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return output / RECORD_NAME


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
) -> dict[str, Any]:
    """Draw, apply and write one case; what was drawn is returned for the record."""
    _require_raw(image)
    simulator = dataclasses.replace(simulator, axes=(slice_axis(image.affine, axis),))
    draw = simulator.draw(case_generator(seed, case))
    try:
        result = simulator.apply(image.data, tissues, draw, means=means)
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


def _require_raw(image: Volume) -> None:
    """UHFError for what is no magnitude image: one value everywhere, or many below 0, as z-scores have."""
    if image.data.min() == image.data.max():
        raise UHFError(f"{image.path} has the same intensity everywhere: there is no image in it")
    negative = float((image.data < 0).mean())
    if negative > MOST_NEGATIVE:
        share = f"{100 * negative:.0f} % of its voxels"
        raise UHFError(f"{image.path} is below 0 in {share}: the simulator needs raw intensities, not z-scores")


def _choose_profile(ratio: int | None, thickness: float | None, gap: float | None) -> SliceProfile:
    """Explicit thickness and gap, else the table's for the ratio."""
    if thickness is not None and gap is not None:
        return SliceProfile(thickness=thickness, gap=gap)
    if thickness is not None or gap is not None:
        raise UHFError("slice thickness and gap belong together: give both, or the ratio alone")
    if ratio is None:
        raise UHFError("the slices are not described: give a ratio, or thickness and gap")
    return profile_for_ratio(ratio)


def _preset_record(preset: Preset) -> dict[str, Any]:
    """The preset as JSON, numbers and source."""
    record = dataclasses.asdict(preset)
    return {**record.pop("snr"), **record}
