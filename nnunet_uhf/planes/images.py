"""The mean of what models of several slice planes make of one scan (ours): it evens out steps between slices.

Their deviation from each other is no error bar: models of one training set err alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import read_volume
from nnunet_uhf.inference.changes import change_map
from nnunet_uhf.inference.enhancer import Enhancer, load_enhancer
from nnunet_uhf.inference.every_scan import EveryScan, Report
from nnunet_uhf.inference.inputs import Scan, scans_and_outputs
from nnunet_uhf.inference.maker import ImageMaker, ReadScan, ScanGeometry
from nnunet_uhf.inference.outputs import CHANGES, IMAGE, UNCERTAINTY, Outputs
from nnunet_uhf.types import FloatArray

SPREAD_OF = "standard deviation over the models of several planes; not an error bar"


def enhance_planes(
    inputs: Path,
    output: Path,
    models: Sequence[Path],
    *,
    device: str | torch.device = "cuda",
    folds: Sequence[int | str] | None = None,
    overwrite: bool = False,
    spread: bool = False,
    changes: bool = False,
    console: Console | None = None,
    progress: bool = True,
) -> list[Path]:
    """Write the mean of the images that several models make of every scan, in the scan's geometry.

    Args:
        inputs: folder of NIfTI images, or one image.
        output: folder, or a file name when ``inputs`` is a file.
        models: keeper files or model folders, of one plane each, two or more.
        device: where to compute.
        folds: of the model folders, averaged; all finished ones by default.
        overwrite: write anew what is there.
        spread: also write ``NAME_uncertainty``, the standard deviation over the models.
        changes: also write ``NAME_changes``, how far the mean is from its input beyond a change of intensities.
        console: for what is to be told, and progress.
        progress: whether a bar is shown.

    Returns:
        The images written.

    Raises:
        UHFError: models that do not go together, or as :func:`nnunet_uhf.inference.enhance.enhance`.
        LeftOutError: some scans could not be enhanced; the others are done.
    """
    if len(models) < 2:
        raise UHFError("one model is no mean: name the models of two or three planes (-m)")
    device = checked_device(device)
    console = console or Console(stderr=True)
    enhancers = [load_enhancer(model, folds=folds) for model in models]
    _require_alike(enhancers, models)
    header = enhancers[0].headers[0]
    tasks = scans_and_outputs(Path(inputs), Path(output), header)
    outputs = Outputs(uncertainty=spread, changes=changes, spread_of=SPREAD_OF)
    outputs.require_apart([target for _, target in tasks])
    # maps are of the mean, not of an image that it is made of
    makers = [ImageMaker(enhancer, Outputs(), device=device, console=console) for enhancer in enhancers]
    makers[0].tell_of_inputs()

    def prepare(scan: Scan) -> list[ScanGeometry]:
        return [maker.prepare(scan) for maker in makers]

    def read(scan: Scan, prepared: list[ScanGeometry]) -> list[ReadScan]:
        return [maker.read(scan, one) for maker, one in zip(makers, prepared, strict=True)]

    def write(target: Path, given: list[ReadScan], report: Report) -> None:
        scan = given[0].scan[0]
        images = _mean(makers, given, report)
        if changes:
            images[CHANGES] = change_map(images[IMAGE], read_volume(scan).data)
        notes = [maker.note(one) for maker, one in zip(makers, given, strict=True)]
        note = {
            **notes[0],
            "keepers": [keeper for one in notes for keeper in one["keepers"]],
            "mean_of": [one["model"] for one in notes],
        }
        outputs.write(target, images, note, scan=scan)

    scans = EveryScan(tasks, prepare=prepare, dim=header.dim)
    there = None if overwrite else outputs.all_there
    return scans.make(read, write, there=there, console=console, progress=progress)


def _mean(makers: Sequence[ImageMaker], given: Sequence[ReadScan], report: Report) -> dict[str, FloatArray]:
    """Mean and standard deviation over the models."""
    made = []
    for number, (maker, one) in enumerate(zip(makers, given, strict=True)):

        def of_all(done: int, total: int, before: int = number) -> None:
            report(before * total + done, len(makers) * total)

        made.append(maker.images(one, of_all)[IMAGE])
    stack = np.stack(made)
    return {IMAGE: stack.mean(axis=0), UNCERTAINTY: stack.std(axis=0)}


def _require_alike(enhancers: Sequence[Enhancer], models: Sequence[Path]) -> None:
    """UHFError unless all models make one kind of image of one scan, slice by slice."""
    asked = []
    for enhancer, model in zip(enhancers, models, strict=True):
        header = enhancer.headers[0]
        if header.dim != 2 or len(header.inputs) != 1 or header.modalities is not None:
            raise UHFError(f"{model} is no model of slices of one image: give 2d models of one plane each (-m)")
        asked.append((header.channel, header.source_field_T, header.target_field_T, header.dataset))
    for other, model in zip(asked[1:], models[1:], strict=True):
        if other != asked[0]:
            raise UHFError(f"{model} was trained on other images than {models[0]}: give models of one dataset (-m)")
    planes = [enhancer.headers[0].transpose_forward[0] for enhancer in enhancers]
    if len(set(planes)) < len(planes):
        raise UHFError("two of the models slice along the same axis: give one model a plane (-m)")
