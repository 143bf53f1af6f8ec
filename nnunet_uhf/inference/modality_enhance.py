"""``nnunet-uhf enhance --to``: one modality of others, at any slice distance, by Uni-COAL models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from rich.console import Console

from nnunet_uhf import __version__
from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import note_path, read_image
from nnunet_uhf.imageio.nifti import write_volume
from nnunet_uhf.imageio.orientation import Turn
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.imageio.restore import restore_grid
from nnunet_uhf.inference.enhancer import Enhancer, load_enhancer
from nnunet_uhf.inference.every_scan import EveryScan, Report
from nnunet_uhf.inference.inputs import Scan, scans_and_outputs
from nnunet_uhf.inference.modality_geometry import AskedGeometry, asked_geometry
from nnunet_uhf.inference.modality_request import ModalityRequest, modalities_of, modality_request
from nnunet_uhf.inference.notes import origin_of_image
from nnunet_uhf.inference.orientation import not_turned, stored_as, turn_of
from nnunet_uhf.inference.preprocess import managers, preprocess_image
from nnunet_uhf.inference.slice_volumes import NOISE_SEED, SliceVolumes, Wanted
from nnunet_uhf.inference.unit_range import UnitRange, unit_range
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.unicoal.modalities import Modalities
from nnunet_uhf.networks.unicoal.network import UniCOAL
from nnunet_uhf.types import FloatArray


def enhance_modality(
    inputs: str | Path,
    output: str | Path,
    model: str | Path | Sequence[str | Path],
    *,
    to: str | None,
    source: str | Sequence[str] | None = None,
    spacing: float | None = None,
    axis: str | None = None,
    device: str | torch.device = "cuda",
    folds: Sequence[int | str] | None = None,
    overwrite: bool = False,
    console: Console | None = None,
    progress: bool = True,
) -> list[Path]:
    """Make one modality of others for every scan; returns the paths written.

    The first slice stays where it is, and the others follow at ``spacing`` mm up to the last slice of the scan. Where
    the target is among the sources, intensities are those of the scan, else those that are usual for the target. Each
    image has a JSON note beside it.

    Args:
        inputs: a file or a folder of 3D images; of several sources a folder of ``CASE_0000.nii.gz``,
            ``CASE_0001.nii.gz`` .., in the order of ``source``.
        output: a folder, or a file name when ``inputs`` is a file.
        model: a keeper file or a results folder of a Uni-COAL trainer. Of several the mean is written, each with slices
            in the plane of its own training: where three are of three planes, no plane has its slices to itself (E9).
        to: the target; may be left out of a model that knows one.
        source: the modalities of the inputs; may be left out of a model that knows one.
        spacing: between slices in mm; by default the scan's own.
        axis: plane or array axis of the slices; by default the training's.
        device: torch device.
        folds: of a results folder, averaged; by default all finished ones.
        overwrite: write anew what is there.
        console: for warnings and progress.
        progress: whether a bar is shown.

    Raises:
        UHFError: before anything is computed: no such modality, no Uni-COAL model, no file that can be read.
        LeftOutError: when the others are done, for files that could not be.
    """
    console = console or Console(stderr=True)
    device = checked_device(device)
    models = [model] if isinstance(model, str | Path) else list(model)
    views = [_view(one, to=to, source=source, folds=folds, device=device) for one in models]
    remarks = {remark for view in views if (remark := not_turned(view.header)) is not None}
    for remark in sorted(remarks):
        console.print(remark, highlight=False, markup=False)

    def prepare(scan: Scan) -> list[_Look]:
        looks = []
        for view in views:
            turn = turn_of(view.header, scan[0])
            looks.append(_Look(asked_geometry(view.header, scan[0], spacing_mm=spacing, axis=axis, turn=turn), turn))
        _require_one_grid(scan, [look.geometry for look in looks])
        return looks

    def read(scan: Scan, looks: list[_Look]) -> _Read:
        for text in {view.request.beyond_training(view.known, looks[n].geometry.ratio) for n, view in enumerate(views)}:
            if text is not None:
                console.print(f"warning: {scan[0].name}: {text}", highlight=False, markup=False)
        return _Read(scan, looks, [_given(scan, view, look) for view, look in zip(views, looks, strict=True)])

    def write(target: Path, given: _Read, report: Report) -> None:
        _write(target, given, views, report)

    scans = EveryScan(scans_and_outputs(Path(inputs), Path(output), views[0].header), prepare=prepare, dim=3)
    there = None if overwrite else Path.exists
    return scans.make(read, write, there=there, console=console, progress=progress)


@dataclass(frozen=True)
class _View:
    """A model with what is asked of it; its header is that of a network of these inputs and this output."""

    enhancer: Enhancer
    known: Modalities
    request: ModalityRequest
    header: KeeperHeader
    volumes: SliceVolumes


def _view(
    model: str | Path,
    *,
    to: str | None,
    source: str | Sequence[str] | None,
    folds: Sequence[int | str] | None,
    device: torch.device,
) -> _View:
    enhancer = load_enhancer(model, folds=folds)
    known = modalities_of(enhancer)
    request = modality_request(known, str(model), to=to, source=source)
    header = request.header_for(enhancer.headers[0], known)
    assert isinstance(enhancer.network, UniCOAL)
    volumes = SliceVolumes(enhancer.network, known, managers(header)[1], device=device, parameters=enhancer.parameters)
    return _View(enhancer, known, request, header, volumes)


@dataclass(frozen=True)
class _Look:
    """How a model sees the slices of a scan."""

    geometry: AskedGeometry
    turn: Turn | None


@dataclass(frozen=True)
class _Given:
    """Slices of every source `(Z, Y, X)` as a model reads them, the mask, nnU-Net's properties, the intensities."""

    stacks: Mapping[str, FloatArray]
    inside: Any
    properties: dict[str, Any]
    intensities: UnitRange


@dataclass(frozen=True)
class _Read:
    """A scan as every model reads it."""

    scan: Scan
    looks: Sequence[_Look]
    given: Sequence[_Given]


def _require_one_grid(scan: Scan, geometries: Sequence[AskedGeometry]) -> None:
    """UHFError where several models would make volumes of different slices."""
    grids = {None if abs(one.ratio - 1) < 1e-6 else (one.file_axis, one.asked_count) for one in geometries}
    if len(grids) > 1:
        raise UHFError(
            f"{scan[0]}: models of several planes have one grid in common, the scan's: leave --spacing out, or name "
            "models of one plane (-m)"
        )


def _given(scan: Scan, view: _View, look: _Look) -> _Given:
    """Read one scan for one model; UHFError of a scan that cannot be read."""
    geometry, header = look.geometry, look.geometry.header
    data, inside, properties = preprocess_image(scan, *managers(header), turn=look.turn)
    data, inside = geometry.whole(data, properties), geometry.whole(inside, properties)
    mask = inside if header.use_mask_for_norm else None
    stacks: dict[str, FloatArray] = {}
    ranges: dict[str, UnitRange] = {}
    for name, image, path in zip(view.request.sources, data, scan, strict=True):
        ranges[name] = _range_of_file(path, masked=mask is not None)
        measured = unit_range(image, mask)
        assert measured is not None
        stacks[name] = measured.shifted(image, mask)
    usual = (header.modalities or {})["intensity"][view.request.target]
    return _Given(stacks, inside, properties, ranges.get(view.request.target) or UnitRange(*usual))


def _range_of_file(path: Path, *, masked: bool) -> UnitRange:
    """The range of a scan in the units of its file."""
    image, _ = read_image(path)
    image, inside, _ = crop_to_nonzero(image)
    measured = unit_range(image[0], inside[0] >= 0 if masked else None)
    if measured is None:
        raise UHFError(f"{path} has no contrast: nothing can be made of it")
    return measured


def _made(view: _View, look: _Look, given: _Given, report: Report) -> FloatArray:
    """A model's volume on the grid that is asked for, in units of a file."""
    geometry, header = look.geometry, look.geometry.header
    slices = view.request.slices(view.known, distance_mm=geometry.spacing_mm, ratio=geometry.ratio)
    wanted = Wanted(target=view.request.target, slices=slices, spacing_mm=geometry.asked_mm)
    image = view.volumes.predict(given.stacks, wanted, places=geometry.places, on_slice=report)
    half = (given.intensities.high - given.intensities.low) / 2
    volume = restore_grid(
        image,
        geometry.properties(given.properties),
        *managers(header),
        mean=given.intensities.low + half,
        std=half,
        mask=geometry.mask(given.inside) if header.use_mask_for_norm else None,
    )
    return volume if look.turn is None else look.turn.back(volume)


def _write(target: Path, read: _Read, views: Sequence[_View], report: Report) -> None:
    """Make a volume and write it in its geometry; the note first, so that no image is ever without it."""
    image, geometry = nibabel.load(read.scan[0]), read.looks[0].geometry
    shape = list((*image.shape, 1, 1)[:3])
    shape[geometry.file_axis] = geometry.asked_count
    made = []
    for number, (view, look, given) in enumerate(zip(views, read.looks, read.given, strict=True)):

        def of_all(done: int, total: int, before: int = number) -> None:
            report(before * total + done, len(views) * total)

        made.append(_made(view, look, given, of_all))
    volume = np.mean(made, axis=0) if len(made) > 1 else made[0]
    with written_whole(note_path(target)) as temporary:
        temporary.write_text(json.dumps(_note(read, views), indent=2) + "\n")
    with written_whole(target) as temporary:
        write_volume(temporary, volume.T.reshape(shape), header=image.header, step=geometry.step)


def _note(read: _Read, views: Sequence[_View]) -> Mapping[str, Any]:
    scan, geometry, first = read.scan, read.looks[0].geometry, views[0]
    header, known, request = geometry.header, first.known, first.request
    several = [
        {**origin_of_image(view.header, scan, view.enhancer), "array_axis": look.geometry.file_axis}
        for view, look in zip(views, read.looks, strict=True)
    ]
    return {
        **origin_of_image(header, scan, first.enhancer),
        **({"mean_of": several} if len(several) > 1 else {}),
        "from": list(request.sources),
        "to": request.target,
        "source_field_T": known.tesla[request.sources[0]],
        "target_field_T": known.tesla[request.target],
        "orientation": {"stored": stored_as(scan[0]), "seen_by_the_model": header.orientation},
        "slices": {
            "array_axis": geometry.file_axis,
            "given_spacing_mm": geometry.spacing_mm,
            "spacing_mm": geometry.asked_mm,
            "trained_ratio": list(known.ratio),
        },
        "noise_seed": NOISE_SEED,
        "sam_sha256": (header.modalities or {}).get("sam_sha256"),
        "nnunet_uhf_version": __version__,
    }
