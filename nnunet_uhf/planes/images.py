"""The mean of what models of several slice planes make of one scan (ours): it evens out steps between slices.

Their deviation from each other is no error bar: models of one training set err alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from nnunet_uhf.devices import checked_device
from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.imageio.files import note_path
from nnunet_uhf.imageio.nifti import read_volume, write_volume
from nnunet_uhf.imageio.output import working_folder, written_whole
from nnunet_uhf.inference.enhance import Enhancer, enhance, load_enhancer
from nnunet_uhf.inference.inputs import scans_and_outputs
from nnunet_uhf.inference.uncertainty import uncertainty_path


def enhance_planes(
    inputs: Path,
    output: Path,
    models: Sequence[Path],
    *,
    device: str | torch.device = "cuda",
    folds: Sequence[int | str] | None = None,
    overwrite: bool = False,
    spread: bool = False,
    console: Console | None = None,
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
        console: for progress.

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
    tasks = scans_and_outputs(Path(inputs), Path(output), enhancers[0].headers[0])
    odd, written = Odd(), list[Path]()
    with Progress(console=console) as bar:
        task = bar.add_task("enhance in several planes", total=len(tasks))
        for scan, target in tasks:
            wanted = [target, uncertainty_path(target)] if spread else [target]
            if overwrite or not all(path.exists() for path in wanted):
                with odd.kept(scan[0].name):
                    _enhance_one(scan[0], target, enhancers, device=device, spread=spread)
                    written.append(target)
            bar.advance(task)
    odd.require_others(len(tasks))
    odd.tell()
    return written


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


def _enhance_one(
    source: Path, target: Path, enhancers: Sequence[Enhancer], *, device: torch.device, spread: bool
) -> None:
    quiet = Console(quiet=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with working_folder(target) as temporary:
        made = [temporary / f"{number}{''.join(target.suffixes)}" for number in range(len(enhancers))]
        for path, enhancer in zip(made, enhancers, strict=True):
            enhance(source, path, enhancer, device=device, console=quiet, progress=False)
        notes = [json.loads(note_path(path).read_text()) for path in made]
        volumes = [read_volume(path) for path in made]
    stack = np.stack([volume.data for volume in volumes])
    note = {**notes[0], "keepers": [keeper for one in notes for keeper in one["keepers"]]}
    note["mean_of"] = [one["model"] for one in notes]
    images = {target: stack.mean(axis=0)}
    if spread:
        note["uncertainty"] = {
            "file": uncertainty_path(target).name,
            "meaning": "standard deviation over the models of several planes; not an error bar",
        }
        images[uncertainty_path(target)] = stack.std(axis=0)
    with written_whole(note_path(target)) as path:
        path.write_text(json.dumps(note, indent=2) + "\n")
    for place, image in images.items():
        with written_whole(place) as path:
            write_volume(path, image, header=volumes[0].header)
