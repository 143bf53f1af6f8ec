"""``nnunet-uhf enhance``: the high-field-like image itself, from NIfTI files and a keeper or a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.enhancer import Enhancer, load_enhancer
from nnunet_uhf.inference.every_scan import EveryScan, Report
from nnunet_uhf.inference.inputs import scans_and_outputs
from nnunet_uhf.inference.maker import ImageMaker, ReadScan
from nnunet_uhf.inference.outputs import Outputs


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
    changes: bool = False,
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
    (``NAME_uncertainty.nii.gz``). ``changes`` writes how far each image is from its input beyond a change of
    intensities (``NAME_changes.nii.gz``, see :func:`nnunet_uhf.inference.changes.change_map`).

    Where the keeper file has feature statistics, each input is held against them: the note has the distances, and the
    console a warning for an image unlike those of the training (see :mod:`nnunet_uhf.inference.input_check`).

    A file that is no single 3D NIfTI image, has its slices along another axis, holds NaN or has no contrast is left
    out; when the others are done, LeftOutError names it. Raises UHFError before anything is computed when no file is
    left, the model cannot enhance or has no uncertainty or changes, or the device is absent.

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
    outputs = Outputs(uncertainty=uncertainty, changes=changes)
    outputs.require_apart([target for _, target in tasks])
    maker = ImageMaker(
        enhancer,
        outputs,
        device=device,
        console=console,
        axis=axis,
        mirroring=mirroring,
        tile_step_size=tile_step_size,
    )
    scans = EveryScan(tasks, prepare=maker.prepare, dim=header.dim)
    maker.tell_of_inputs()

    def write(target: Path, given: ReadScan, report: Report) -> None:
        images = maker.images(given, report)
        outputs.write(target, images, maker.note(given), scan=given.scan[0], step=given.step)

    there = None if overwrite else outputs.all_there
    return scans.make(maker.read, write, there=there, console=console, progress=progress)
