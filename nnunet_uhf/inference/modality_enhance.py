"""``nnunet-uhf enhance --to``: one modality of others, at any slice distance, by a Uni-COAL model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import torch
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from nnunet_uhf import __version__
from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.imageio.files import check_nifti_header, note_path, read_image
from nnunet_uhf.imageio.nifti import write_volume
from nnunet_uhf.imageio.orientation import Turn
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.imageio.restore import restore_grid
from nnunet_uhf.inference.enhance import Enhancer, load_enhancer, origin_of_image
from nnunet_uhf.inference.inputs import Scan, scans_and_outputs
from nnunet_uhf.inference.modality_geometry import AskedGeometry, asked_geometry
from nnunet_uhf.inference.orientation import not_turned, stored_as, turn_of
from nnunet_uhf.inference.preprocess import managers, preprocess_image
from nnunet_uhf.inference.slice_volumes import NOISE_SEED, SliceVolumes, Wanted
from nnunet_uhf.inference.unit_range import UnitRange, unit_range
from nnunet_uhf.keepers.header import InputChannel, KeeperHeader
from nnunet_uhf.networks.unicoal.modalities import Modalities, Slices
from nnunet_uhf.networks.unicoal.network import UniCOAL
from nnunet_uhf.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class ModalityRequest:
    """What is asked of a model.

    Attributes:
        target: a modality that it was trained to make.
        sources: the modalities that are given; of several, each scan has a file for each, in this order.
        spacing_mm: between the slices of the volume; None for the scan's own.
        axis: see :func:`nnunet_uhf.inference.modality_geometry.asked_geometry`.
    """

    target: str
    sources: tuple[str, ...]
    spacing_mm: float | None = None
    axis: str | None = None


def enhance_modality(
    inputs: str | Path,
    output: str | Path,
    model: str | Path,
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
        model: a keeper file or a results folder of a Uni-COAL trainer.
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
    enhancer = load_enhancer(model, folds=folds)
    known = modalities_of(enhancer)
    asked = _request(known, Path(model), to, source, spacing, axis)
    header = _header_for(enhancer.headers[0], known, asked)
    tasks = scans_and_outputs(Path(inputs), Path(output), header)
    odd, geometries, turns = Odd(), {}, {}
    for scan, _ in tasks:
        with odd.kept(scan[0].name):
            for path in scan:
                check_nifti_header(path, dim=3)
            turns[scan] = turn_of(header, scan[0])
            geometries[scan] = asked_geometry(
                header, scan[0], spacing_mm=asked.spacing_mm, axis=asked.axis, turn=turns[scan]
            )
    odd.require_others(len(tasks))
    remark = not_turned(header)
    if remark is not None:
        console.print(remark, highlight=False, markup=False)
    waiting = [(scan, target) for scan, target in tasks if overwrite or not target.exists()]
    if len(waiting) < len(tasks):
        console.print(f"{len(tasks) - len(waiting)} of {len(tasks)} images are already there and stay as they are")
    assert isinstance(enhancer.network, UniCOAL)
    volumes = SliceVolumes(enhancer.network, known, managers(header)[1], device=device, parameters=enhancer.parameters)
    with Progress(console=console, disable=not progress) as bar:
        task = bar.add_task("enhance", total=len(waiting))
        for index, (scan, target) in enumerate(waiting):
            bar.update(task, description=escape(scan[0].name))
            if scan in geometries:
                with odd.kept(scan[0].name):
                    made = _make(volumes, scan, turns[scan], geometries[scan], known, asked, console)
            if scan[0].name in odd.reasons:
                console.print(
                    f"left out: {odd.reasons[scan[0].name]}", style="red", soft_wrap=True, highlight=False, markup=False
                )
                continue
            _write(target, scan, made, geometries[scan], enhancer, known, asked)
            bar.update(task, completed=index + 1)
    odd.require_others(len(tasks))
    odd.tell()
    return [target for _, target in waiting]


def modalities_of(enhancer: Enhancer) -> Modalities:
    """What a model knows; UHFError of one that is not asked for modalities."""
    content = enhancer.headers[0].modalities
    if content is None:
        raise UHFError(
            f"{enhancer.name} makes one kind of image of one kind of scan: leave out --to, --from and --spacing, which "
            "are for models of UniCOALTrainer"
        )
    return Modalities.of(content)


def _request(
    known: Modalities,
    model: Path,
    to: str | None,
    source: str | Sequence[str] | None,
    spacing: float | None,
    axis: str | None,
) -> ModalityRequest:
    """What is asked, defaults filled in; UHFError for what the model was not trained on."""
    given = known.sources if source is None else (source,) if isinstance(source, str) else tuple(source)
    if source is None and len(known.sources) > 1:
        raise UHFError(f"{model} was trained on {', '.join(known.sources)}: say which of them the scans are (--from)")
    if to is None and len(known.targets) > 1:
        raise UHFError(f"{model} makes {', '.join(known.targets)}: say which (--to)")
    target = known.targets[0] if to is None else to
    if target not in known.targets:
        raise UHFError(f"--to {target}: {model} was trained to make {', '.join(known.targets)}; ask for one of them")
    unknown = [name for name in given if name not in known.sources]
    if unknown or len(set(given)) < len(given):
        raise UHFError(f"--from {' '.join(given)}: {model} was trained on {', '.join(known.sources)}, each given once")
    if len(given) > 1 and not known.several_sources:
        raise UHFError(f"--from {' '.join(given)}: {model} reads one source at a time; name one")
    return ModalityRequest(target=target, sources=given, spacing_mm=spacing, axis=axis)


def _header_for(header: KeeperHeader, known: Modalities, asked: ModalityRequest) -> KeeperHeader:
    """The model's header as of a network of these inputs and this output."""
    first, *others = (
        InputChannel(channel=name, normalisation=header.normalisation, use_mask_for_norm=header.use_mask_for_norm)
        for name in asked.sources
    )
    return replace(
        header,
        channel=first.channel,
        further_channels=tuple(others),
        source_field_T=known.tesla[asked.sources[0]],
        target_field_T=known.tesla[asked.target],
    )


@dataclass(frozen=True)
class _Made:
    """A volume as the network made it `(Z, Y, X)`, its mask, nnU-Net's properties of it, its intensities, its turn."""

    image: FloatArray
    mask: Any
    properties: dict[str, Any]
    intensities: UnitRange
    turn: Turn | None


def _make(
    volumes: SliceVolumes,
    scan: Scan,
    turn: Turn | None,
    geometry: AskedGeometry,
    known: Modalities,
    asked: ModalityRequest,
    console: Console,
) -> _Made:
    """Read and make one volume; UHFError of a scan that cannot be read."""
    low, high = known.ratio
    if not low * 0.99 <= geometry.ratio <= high * 1.01:
        console.print(
            f"warning: {scan[0].name}: {geometry.ratio:.3g} slices of one, the model was trained on {low:g} to "
            f"{high:g}: it may do worse here",
            highlight=False,
            markup=False,
        )
    header = geometry.header
    data, inside, properties = preprocess_image(scan, *managers(header), turn=turn)
    data, inside = geometry.whole(data, properties), geometry.whole(inside, properties)
    mask = inside if header.use_mask_for_norm else None
    stacks: dict[str, FloatArray] = {}
    ranges: dict[str, UnitRange] = {}
    for name, image, path in zip(asked.sources, data, scan, strict=True):
        ranges[name] = _range_of_file(path, masked=mask is not None)
        measured = unit_range(image, mask)
        assert measured is not None
        stacks[name] = measured.shifted(image, mask)
    slices = Slices(distance_mm=geometry.spacing_mm, thickness_mm=geometry.spacing_mm)
    wanted = Wanted(target=asked.target, slices=slices, spacing_mm=geometry.asked_mm)
    made = volumes.predict(stacks, wanted, places=geometry.places)
    usual = (header.modalities or {})["intensity"][asked.target]
    return _Made(
        made,
        geometry.mask(inside) if mask is not None else None,
        geometry.properties(properties),
        ranges.get(asked.target) or UnitRange(*usual),
        turn,
    )


def _range_of_file(path: Path, *, masked: bool) -> UnitRange:
    """The range of a scan in the units of its file."""
    image, _ = read_image(path)
    image, inside, _ = crop_to_nonzero(image)
    measured = unit_range(image[0], inside[0] >= 0 if masked else None)
    if measured is None:
        raise UHFError(f"{path} has no contrast: nothing can be made of it")
    return measured


def _write(
    target: Path,
    scan: Scan,
    made: _Made,
    geometry: AskedGeometry,
    enhancer: Enhancer,
    known: Modalities,
    asked: ModalityRequest,
) -> None:
    """Write a volume in its geometry; the note first, so that no image is ever without it."""
    image = nibabel.load(scan[0])
    shape = list((*image.shape, 1, 1)[:3])
    shape[geometry.file_axis] = geometry.asked_count
    half = (made.intensities.high - made.intensities.low) / 2
    volume = restore_grid(
        made.image,
        made.properties,
        *managers(geometry.header),
        mean=made.intensities.low + half,
        std=half,
        mask=made.mask,
    )
    volume = volume if made.turn is None else made.turn.back(volume)
    with written_whole(note_path(target)) as temporary:
        temporary.write_text(json.dumps(_note(scan, geometry, enhancer, known, asked), indent=2) + "\n")
    with written_whole(target) as temporary:
        write_volume(temporary, volume.T.reshape(shape), header=image.header, step=geometry.step)


def _note(
    scan: Scan, geometry: AskedGeometry, enhancer: Enhancer, known: Modalities, asked: ModalityRequest
) -> Mapping[str, Any]:
    header = geometry.header
    return {
        **origin_of_image(header, scan, enhancer),
        "from": list(asked.sources),
        "to": asked.target,
        "source_field_T": known.tesla[asked.sources[0]],
        "target_field_T": known.tesla[asked.target],
        "orientation": {"stored": stored_as(scan[0]), "seen_by_the_model": header.orientation},
        "slices": {
            "array_axis": geometry.file_axis,
            "given_spacing_mm": geometry.spacing_mm,
            "spacing_mm": geometry.asked_mm,
            "trained_ratio": list(known.ratio),
        },
        "noise_seed": NOISE_SEED,
        "sam_sha256": (enhancer.headers[0].modalities or {}).get("sam_sha256"),
        "nnunet_uhf_version": __version__,
    }
