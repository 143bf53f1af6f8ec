"""``nnunet-uhf features``: feature maps of a keeper, or of any finished nnU-Net, as files with a place in the world."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from nnunet_uhf import __version__
from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.imageio.files import CHANNEL_SUFFIX, case_files, check_nifti_header
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.imageio.place import read_place
from nnunet_uhf.inference.inputs import Scan
from nnunet_uhf.inference.map_source import MapSource, Prepared, map_source
from nnunet_uhf.inference.map_tiles import strides_of, tiled_maps
from nnunet_uhf.types import Affine, FloatArray


def features(
    inputs: Path,
    output: Path,
    model: Path,
    *,
    levels: Sequence[int] | None = None,
    fold: int | str | None = None,
    npz: bool = False,
    device: str | torch.device = "cpu",
    overwrite: bool = False,
    console: Console | None = None,
) -> list[Path]:
    """Write the feature maps of every scan.

    A scan is preprocessed as for the network: turned (keepers), cropped, normalised, resampled, padded at its end. Its
    maps stay on that grid, each level on its own, whose voxels are the blocks of the scan that they stand for; nothing
    is interpolated back.

    Args:
        inputs: folder of NIfTI scans, ``CASE.nii.gz``, or ``CASE_0000.nii.gz``, .. for a network of several channels.
        output: folder for ``CASE_levelN.nii.gz`` `(X_l, Y_l, Z_l, C_l)`, float32, or one ``CASE.npz`` with ``levelN``
            and ``affineN``; and for ``features.json``.
        model: keeper file, or model folder of a finished nnU-Net, guided or not, whose encoder's maps are meant.
        levels: which maps, 0 the finest; all by default.
        fold: of a model folder; the first finished one by default.
        npz: numpy's format in place of NIfTI.
        device: where the network runs.
        overwrite: replace what is there.
        console: shows a progress bar when given.

    Returns:
        The files written.

    Raises:
        UHFError: no usable model, no scans, a level that it does not have, files that are there already.
        LeftOutError: some scans could not be read; the others are done.
    """
    device = checked_device(device)
    source = map_source(model, fold=fold)
    source.network.to(device).eval()
    patch = source.configuration.patch_size
    strides = strides_of(source.maps, source.channels, patch, device)
    chosen = tuple(range(len(strides))) if levels is None else tuple(dict.fromkeys(levels))
    if not chosen or any(not 0 <= level < len(strides) for level in chosen):
        raise UHFError(f"{model} has the levels 0 to {len(strides) - 1}: choose among them (--levels)")
    scans = _scans(inputs, source)
    files = {case: _files(output, case, chosen, npz=npz) for case in scans}
    there = [path for paths in files.values() for path in paths if path.exists()]
    if there and not overwrite:
        raise UHFError(f"{there[0]} is there already: choose another folder (-o), or --overwrite")
    odd, written = Odd(), list[Path]()
    bar = scans if console is None else track(scans, "features", console=console)
    for case in bar:
        with odd.kept(scans[case][0].name):
            for path in scans[case]:
                check_nifti_header(path, dim=len(patch))
            prepared = source.prepare(scans[case])
            maps = scan_maps(source, prepared, chosen, strides, device)
            affines = [map_affine(scans[case], prepared, source, strides[level]) for level in chosen]
            _write(files[case], maps, affines, chosen, npz=npz)
            written += files[case]
    odd.require_others(len(scans))
    with written_whole(output / "features.json") as temporary:
        temporary.write_text(json.dumps(_note(source, chosen, strides), indent=2) + "\n", encoding="utf-8")
    odd.tell()
    return written


def map_affine(scan: Scan, prepared: Prepared, source: MapSource, stride: Sequence[int]) -> Affine:
    """(4, 4): index (x, y, z) of a level's voxel, as its file has it, to the world mm of the scan.

    A voxel lies at the middle of the block of preprocessed voxels that it stands for; a preprocessed voxel where
    nnU-Net's resampling puts it.
    """
    image = nibabel.load(scan[0])
    world = read_place(scan[0], image).affine
    size = (*image.shape, 1, 1)[:3]
    # steps from the level's index to that of the stored scan, each (4, 4) of indices (x, y, z)
    steps = [_scaling([1, *stride][-3:])]
    before = prepared.properties["shape_after_cropping_and_before_resampling"]
    steps.append(_scaling([old / new for old, new in zip(before, prepared.data.shape[1:], strict=True)]))
    crop = np.eye(4)
    crop[:3, 3] = [bounds[0] for bounds in prepared.properties["bbox_used_for_cropping"]][::-1]
    steps.append(crop)
    steps.append(_permutation(source.plans.transpose_forward))
    if prepared.turn is not None:
        turn = np.eye(4)
        turn[:3, :3] = 0
        for axis, (stored, reverses) in enumerate(zip(prepared.turn.axes, prepared.turn.reverses, strict=True)):
            turn[stored, axis] = -1 if reverses else 1
            turn[stored, 3] = size[stored] - 1 if reverses else 0
        steps.append(turn)
    affine = world
    for step in reversed(steps):
        affine = affine @ step
    return np.asarray(affine, dtype=np.float64)


def _scaling(factors: Sequence[float]) -> Affine:
    """Of axes (z, y, x): index of a block to that of its middle among the voxels it is made of."""
    matrix = np.eye(4)
    for axis, factor in enumerate(reversed(factors)):
        matrix[axis, axis], matrix[axis, 3] = factor, (factor - 1) / 2
    return matrix


def _permutation(transpose_forward: Sequence[int]) -> Affine:
    """Index (x, y, z) of a transposed array to that of the array before; ``transpose_forward`` counts (z, y, x)."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for place, axis in enumerate(transpose_forward):
        matrix[2 - axis, 2 - place] = 1
    return matrix


def scan_maps(
    source: MapSource, prepared: Prepared, levels: Sequence[int], strides: Sequence[Sequence[int]], device: torch.device
) -> list[FloatArray]:
    """Maps of a prepared scan, per level `(C_l, Z_l, Y_l, X_l)`; of a 2D network slice by slice.

    Args:
        source: its network, on the device.
        prepared: the scan.
        levels: which maps, 0 the finest.
        strides: of every map, as :func:`strides_of` tells them.
        device: where the network runs.
    """
    volume = torch.from_numpy(np.ascontiguousarray(prepared.data)).float()
    patch = source.configuration.patch_size
    flat = len(patch) == 2
    given = volume.transpose(0, 1) if flat else volume[None]
    found = tiled_maps(source.maps, given, strides=strides, patch_size=patch, levels=levels, device=device)
    return [(one.transpose(0, 1) if flat else one[0]).numpy() for one in found]


def _scans(inputs: Path, source: MapSource) -> dict[str, Scan]:
    """The scans of a folder by case."""
    found = case_files(inputs)
    if source.channels == 1 and not all(CHANNEL_SUFFIX.search(name) for name in found):
        return {name: (path,) for name, path in found.items()}
    cases: dict[str, list[Path]] = {}
    for name, path in sorted(found.items()):
        if not CHANNEL_SUFFIX.search(name):
            raise UHFError(f"{path} has no channel's number: name the images of a case CASE_0000.nii.gz, CASE_0001 ..")
        cases.setdefault(name[:-5], []).append(path)
    for case, paths in cases.items():
        if len(paths) != source.channels:
            raise UHFError(
                f"{inputs}: case {case} has {len(paths)} images, {source.path} reads {source.channels} together"
            )
    return {case: tuple(paths) for case, paths in cases.items()}


def _files(output: Path, case: str, levels: Sequence[int], *, npz: bool) -> list[Path]:
    if npz:
        return [output / f"{case}.npz"]
    return [output / f"{case}_level{level}.nii.gz" for level in levels]


def _write(
    files: Sequence[Path], maps: Sequence[FloatArray], affines: Sequence[Affine], levels: Sequence[int], *, npz: bool
) -> None:
    files[0].parent.mkdir(parents=True, exist_ok=True)
    if npz:
        arrays: dict[str, Any] = {f"level{level}": one for level, one in zip(levels, maps, strict=True)}
        arrays |= {f"affine{level}": one for level, one in zip(levels, affines, strict=True)}
        with written_whole(files[0]) as temporary:
            np.savez_compressed(temporary, **arrays)
        return
    for path, one, affine in zip(files, maps, affines, strict=True):
        image = nibabel.Nifti1Image(np.ascontiguousarray(one.transpose(3, 2, 1, 0)), affine)
        image.header.set_xyzt_units("mm")
        with written_whole(path) as temporary:
            nibabel.save(image, temporary)


def _note(source: MapSource, levels: Sequence[int], strides: Sequence[Sequence[int]]) -> dict[str, object]:
    return {
        "description": "Feature maps of a neural network: no images, in units of the network.",
        **source.note,
        "levels": {str(level): {"stride": list(strides[level])} for level in levels},
        "spacing_mm": list(source.configuration.spacing),
        "axes": "of the preprocessed scan, cropped; each file has its own affine",
        "nnunet_uhf_version": __version__,
    }
