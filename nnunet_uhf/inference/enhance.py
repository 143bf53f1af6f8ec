"""``nnunet-uhf enhance``: the high-field-like image itself, from NIfTI files and a keeper or a trained model."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from nnunet_uhf import __version__
from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import note_path
from nnunet_uhf.imageio.nifti import write_volume
from nnunet_uhf.imageio.orientation import Turn
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.imageio.restore import restore_grid
from nnunet_uhf.inference.every_scan import EveryScan, Report
from nnunet_uhf.inference.input_check import InputCheck, check_for_enhancing, without_statistics
from nnunet_uhf.inference.inputs import Scan, scans_and_outputs
from nnunet_uhf.inference.neighbours import with_neighbours
from nnunet_uhf.inference.orientation import not_turned, stored_as, turn_of
from nnunet_uhf.inference.predictor import ImagePredictor
from nnunet_uhf.inference.preprocess import managers, preprocess_image
from nnunet_uhf.inference.thick_scans import SliceGeometry, slice_geometry, stretch_of
from nnunet_uhf.inference.uncertainty import uncertainty_path, with_spread, wrapped
from nnunet_uhf.keepers.file import KeeperHeader, build_enhancer, read_keeper
from nnunet_uhf.keepers.origin import taught_on
from nnunet_uhf.keepers.trained import TrainedKeeper, read_trained_keeper
from nnunet_uhf.keepers.trained_teacher import TEACHER, TrainedTeacher, is_teacher, read_trained_teacher
from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.networks.kinds import KINDS
from nnunet_uhf.nnunet.model_folder import ModelFolder


@dataclass(frozen=True)
class Enhancer:
    """A network with what it must know of its input; ``headers`` and ``parameters``: one per averaged fold."""

    name: str
    headers: tuple[KeeperHeader, ...]
    network: EnhancementNet
    parameters: list[Mapping[str, Tensor]]


def enhance(
    inputs: str | Path,
    output: str | Path,
    model: str | Path | Enhancer,
    *,
    device: str | torch.device = "cuda",
    folds: Sequence[int | str] | None = None,
    overwrite: bool = False,
    mirroring: bool = False,
    tile_step_size: float = 0.5,
    console: Console | None = None,
    progress: bool = True,
    axis: str | None = None,
    uncertainty: bool = False,
) -> list[Path]:
    """Infer the high-field-like image of every NIfTI file; returns the paths written.

    ``inputs``: a file or a folder of single-channel 3D images (any spacing in mm, any orientation), turned to the
    orientation of the training's scans and preprocessed as nnU-Net would for the keeper. ``output``: a folder, or a
    file name when ``inputs`` is a file; names are kept. ``model``: a keeper file with decoder, or the results folder of
    a keeper trainer, of which ``folds`` (all finished ones by default) are averaged; or that of a teacher trainer,
    which reconstructs high-field images. Images are float32 in the input's geometry and in the target's typical
    intensities; each has a JSON note beside it that says what it is. Files that are already there are left alone
    unless ``overwrite``.

    A model that reads several images together takes a folder of ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz``, .., in the
    order of its channels and on one grid.

    A model of thick slices writes r times the slices; ``axis`` names the one they lie along where it is not the
    training's (see :func:`nnunet_uhf.inference.thick_scans.slice_geometry`). ``uncertainty`` also writes, beside each
    image, the standard deviation over the members of a Masksembles model, in the same units
    (``NAME_uncertainty.nii.gz``).

    Where the keeper file has feature statistics, each input is held against them: the note has the distances, and the
    console a warning for an image unlike those of the training (see :mod:`nnunet_uhf.inference.input_check`).

    A file that is no single 3D NIfTI image, has its slices along another axis, holds NaN or has no contrast is left
    out; when the others are done, LeftOutError names it. Raises UHFError before anything is computed when no file is
    left, the model cannot enhance or has no uncertainty, or the device is absent.

    Examples:
        >>> import nibabel
        >>> import numpy as np
        >>> from nnunet_uhf import enhance, write_untrained_keeper
        >>> scan = np.random.default_rng(0).uniform(0, 100, (32, 32, 4)).astype(np.float32)
        >>> nibabel.save(nibabel.Nifti1Image(scan, np.eye(4)), "low_field.nii.gz")
        >>> keeper = write_untrained_keeper("keeper.safetensors", dim=2)  # in earnest: one that was trained
        >>> (written,) = enhance("low_field.nii.gz", "enhanced.nii.gz", keeper, device="cpu", progress=False)
        >>> nibabel.load(written).shape
        (32, 32, 4)
    """
    console = console or Console(stderr=True)
    device = checked_device(device)
    enhancer = model if isinstance(model, Enhancer) else load_enhancer(model, folds=folds)
    header = enhancer.headers[0]
    if header.modalities is not None:
        raise UHFError(f"{model} makes one modality of another: say which (--to), or call enhance_modality")
    tasks = scans_and_outputs(Path(inputs), Path(output), header)
    network: nn.Module = enhancer.network
    parameters: Sequence[Mapping[str, Tensor]] = enhancer.parameters
    if uncertainty:
        network = with_spread(network, header=header)
        parameters = [wrapped(one) for one in parameters]
        twice = sorted({target for _, target in tasks} & {uncertainty_path(target) for _, target in tasks})
        if twice:
            raise UHFError(f"{twice[0]} would be an image and the uncertainty of another one: rename its input")

    def prepare(scan: Scan) -> tuple[Turn | None, SliceGeometry | None]:
        turn = turn_of(header, scan[0])
        return turn, slice_geometry(header, scan[0], axis=axis, turn=turn)

    scans = EveryScan(tasks, prepare=prepare, dim=header.dim)
    if header.feature_statistics is None and not str(header.metrics.get("note", "")).startswith(TEACHER):
        console.print(f"inputs are not checked: {without_statistics(header)}", highlight=False, markup=False)
    note = not_turned(header)
    if note is not None:
        console.print(note, highlight=False, markup=False)

    predictor = ImagePredictor(device=device, tile_step_size=tile_step_size, use_mirroring=mirroring)
    stretch, neighbours = stretch_of(header), KINDS[header.network].neighbours(header.architecture)
    predictor.set_network(
        network,
        managers(header)[1],
        parameters=parameters,
        # mirrored slices would not lie where the model expects their samples
        mirroring_axes=[n for n in range(header.dim) if stretch[n - header.dim] == 1] if mirroring else None,
        stretch=stretch,
        outputs=2 if uncertainty else 1,
    )

    def read(scan: Scan, prepared: tuple[Turn | None, SliceGeometry | None]) -> _Read:
        return _read(scan, *prepared, enhancer, device, console)

    def write(target: Path, given: _Read, report: Report) -> None:
        images = predictor.predict_image(with_neighbours(torch.from_numpy(given.data), neighbours), on_patch=report)
        _write(target, given, images, enhancer, uncertainty=uncertainty)

    there = None if overwrite else functools.partial(_all_there, uncertainty=uncertainty)
    return scans.make(read, write, there=there, console=console, progress=progress)


@dataclass(frozen=True)
class _Read:
    """A scan as the network reads it, and what is needed to write its image; geometry: of thick slices."""

    scan: Scan
    stored: str
    turn: Turn | None
    data: NDArray[np.float32]
    mask: NDArray[np.bool_]
    properties: dict[str, Any]
    geometry: SliceGeometry | None
    check: InputCheck | None


def _read(
    scan: Scan,
    turn: Turn | None,
    geometry: SliceGeometry | None,
    enhancer: Enhancer,
    device: torch.device,
    console: Console,
) -> _Read:
    """Read and check one scan; UHFError when it is none that can be enhanced."""
    header = enhancer.headers[0]
    if geometry is not None and geometry.warning:
        console.print(f"warning: {scan[0].name}: {geometry.warning}", highlight=False, markup=False)
    read = managers(header if geometry is None else geometry.header)
    data, mask, properties = preprocess_image(scan, *read, turn=turn)
    check = check_for_enhancing(header, enhancer.network, data, device, scan[0], console)
    return _Read(scan, stored_as(scan[0]), turn, data, mask, properties, geometry, check)


def _write(target: Path, read: _Read, images: Tensor, enhancer: Enhancer, *, uncertainty: bool) -> None:
    """Write what was predicted of a scan, in its geometry; the note first, so that no image is ever without it."""
    header, geometry, mask, properties = enhancer.headers[0], read.geometry, read.mask, read.properties
    image = nibabel.load(read.scan[0])
    shape, step, written = list(image.shape[:3]), None, managers(header)
    if geometry is not None:
        written, step = managers(geometry.written_header), geometry.step
        shape[geometry.file_axis] *= geometry.ratio
        mask, properties = geometry.mask(mask), geometry.properties(properties)
    _write_note(target, read, enhancer, uncertainty=uncertainty)
    intensity = header.target_intensity
    scales = {target: (intensity["mean"], intensity["std"]), uncertainty_path(target): (0.0, intensity["std"])}
    for predicted, (path, (mean, std)) in reversed(list(zip(images, scales.items(), strict=False))):
        inside = mask if header.use_mask_for_norm else None
        volume = restore_grid(predicted[None], properties, *written, mean=mean, std=std, mask=inside)
        volume = volume if read.turn is None else read.turn.back(volume)
        with written_whole(path) as temporary:
            write_volume(temporary, volume.T.reshape(shape), header=image.header, step=step)


def _all_there(target: Path, uncertainty: bool) -> bool:
    return target.exists() and (not uncertainty or uncertainty_path(target).exists())


def load_enhancer(model: str | Path, *, folds: Sequence[int | str] | None = None) -> Enhancer:
    """Read a keeper file with decoder, or the folds of a keeper or teacher trainer's results folder."""
    path = Path(model)
    if not path.is_dir():
        if folds is not None:
            raise UHFError(f"{path} is a keeper file, which holds one fold: leave the folds away (-f)")
        file = read_keeper(path)
        network = build_enhancer(file)
        return Enhancer(path.name, (file.header,), network, [network.state_dict()])
    folder = ModelFolder(path)
    if not folder.plans_file.is_file():
        raise UHFError(
            f"{path} is no model folder (it has no plans.json): give a keeper file (*.safetensors) or a folder "
            "like nnUNet_results/DATASET/UHFKeeperTrainer__nnUNetPlans__3d_fullres"
        )
    chosen = tuple(folds) if folds is not None else folder.finished_folds
    read: Callable[[Path, int | str], TrainedKeeper | TrainedTeacher]
    read = read_trained_teacher if is_teacher(folder) else read_trained_keeper
    trained = [read(path, fold) for fold in chosen]
    networks = [one.network for one in trained]
    return Enhancer(
        path.name,
        tuple(one.header for one in trained),
        networks[0],
        [copy.deepcopy(network.state_dict()) for network in networks],  # the first network loads each in turn
    )


def _write_note(target: Path, read: _Read, enhancer: Enhancer, *, uncertainty: bool) -> None:
    header, scan, geometry, check = enhancer.headers[0], read.scan, read.geometry, read.check
    seen = read.stored if read.turn is None else header.orientation
    note = {
        **origin_of_image(header, scan, enhancer),
        "simulation": header.simulation,
        "channel": header.channel if len(scan) == 1 else [one.channel for one in header.inputs],
        "source_field_T": header.source_field_T,
        "target_field_T": header.target_field_T,
        "orientation": {"stored": read.stored, "seen_by_the_model": seen},
        "input_check": None if check is None else check.note(),
        "nnunet_uhf_version": __version__,
    }
    if geometry is not None:
        note["slices"] = {
            "made_of_one": geometry.ratio,
            "array_axis": geometry.file_axis,
            "spacing_mm": geometry.spacing_mm / geometry.ratio,
            "trained_spacing_mm": geometry.trained_spacing_mm,
        }
    if uncertainty:
        note["uncertainty"] = {
            "file": uncertainty_path(target).name,
            "meaning": "standard deviation over the members of the ensemble, mean over folds; not an error bar",
        }
    with written_whole(note_path(target)) as temporary:
        temporary.write_text(json.dumps(note, indent=2) + "\n")


def origin_of_image(header: KeeperHeader, scan: Scan, enhancer: Enhancer) -> dict[str, Any]:
    """The first entries of every note: what an image is, and of which scan and by which model it was made."""
    return {
        "description": describe_image(header),
        "input": scan[0].name if len(scan) == 1 else [path.name for path in scan],
        "model": enhancer.name,
        "keepers": [
            {
                "fold": one.fold,
                "sha256": one.sha256,
                "decoder_sha256": one.decoder_sha256,
                "held_out_metrics": one.metrics,
            }
            for one in enhancer.headers
        ],
        "trained_on": header.dataset,
        "route": header.route,
    }


def describe_image(header: KeeperHeader) -> str:
    """One sentence that no reader of the image may miss: inferred, from what, by whom taught, not for diagnosis."""
    high = "unknown field strength" if header.target_field_T is None else f"{header.target_field_T:g} T"
    said = str(header.metrics.get("note", ""))
    if said.startswith(TEACHER):
        return (
            f"Image that shows what the teacher keeps of an image at {high}: reconstructed by a neural network from "
            "its feature maps, the most that a keeper which learns from it can reach. For research only, not for "
            "diagnosis."
        )
    return (
        f"Image inferred by a neural network trained on {taught_on(header)}. It is not a measurement at {high}: "
        "structures may be missing or invented. For research only, not for diagnosis."
    )
