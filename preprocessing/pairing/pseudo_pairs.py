"""Pairs of which a model made one half, for a keeper without real pairs (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.label_maps import inside
from nnunet_uhf.imageio.nifti import read_volume, write_volume
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.inference.enhancer import load_enhancer
from nnunet_uhf.inference.translators import way_back
from nnunet_uhf.keepers.trained import read_trained_keeper
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.preprocessing.datasets.write import paired_block
from nnunet_uhf.preprocessing.pairing.made_pairs import write_made_pairs
from nnunet_uhf.routes.table import read_task_of
from nnunet_uhf.routes.unpaired import UnpairedTask
from nnunet_uhf.seeds import case_generator

NOISE = 0.05
"""Of the standard deviation of a scan: a cycle-consistent network hides its input in fine detail (arXiv 1712.02950)."""

Direction = Literal["target", "source"]


def pseudo_pairs(
    dataset: Path,
    output: Path,
    model: Path,
    *,
    direction: Direction = "target",
    folds: Sequence[int | str] | None = None,
    noise: float = NOISE,
    seed: int = 0,
    device: str | torch.device = "cuda",
    console: Console | None = None,
) -> Path:
    """Write a dataset of pairs of which a model that was trained on unpaired scans made one half.

    From `target`: a true high-field scan with the low-field scan that the model makes of it, and noise; a teacher then
    sees true high field alone. From `source`: a true low-field scan with the high-field image that the model makes of
    it, which may show what is not there. Scans of held-out pairs are left out. The dataset appears complete or not at
    all.

    Args:
        dataset: raw dataset of two domains, as `convert unpaired` writes it.
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        model: results folder of PTATrainer or a variant.
        direction: which domain's scans are true.
        folds: whose images are averaged; all finished ones by default.
        noise: on made low-field scans, of the standard deviation within the labels.
        seed: of the noise.
        device: where to compute.
        console: shows progress when given.

    Returns:
        `output`.

    Raises:
        UHFError: not such a dataset or model, or as `enhance`.
    """
    if not 0 <= noise < float("inf"):
        raise UHFError(f"--noise is {noise:g}: give a number from 0, of the standard deviation of a scan")
    description = read_json(dataset / "dataset.json", advice="name a raw dataset of two domains, DatasetXXX_NAME")
    task = read_task_of(UnpairedTask, description, dataset=str(dataset))
    load = way_back if direction == "target" else load_enhancer
    enhancer = load(model, folds=folds)
    domain = task.target if direction == "target" else task.source
    held = {task.subject(case) for pair in task.held_out_pairs.items() for case in pair}
    cases = [case for case in task.cases_of(domain) if task.subject(case) not in held]
    if not cases:
        raise UHFError(f"{dataset}: no case of {domain} is left beside uhf.unpaired.held_out_pairs")
    ending = str(description["file_ending"])
    true = {case: dataset / "imagesTr" / f"{case}_0000{ending}" for case in cases}
    labels = {case: dataset / "labelsTr" / f"{case}{ending}" for case in cases}
    channels = (task.channel, f"{task.channel}_{task.target}")
    block = paired_block(
        output,
        source_channel=channels[0],
        target_channel=channels[1],
        source_field_T=task.source_field_T,
        target_field_T=task.target_field_T,
        route=task.route,
    )
    block["made_by"] = _maker(model, folds, task, direction)

    def make(given: Path, made: Path) -> None:
        enhance(given, made, enhancer, device=device, console=console, progress=console is not None)
        if direction == "target":
            for case, path in labels.items():
                _add_noise(case, made / f"{case}{ending}", path, noise, seed)

    return write_made_pairs(
        output,
        true=true,
        make=make,
        channels=channels,
        true_half=1 if direction == "target" else 0,
        dataset=dataset,
        description=description,
        block=block,
        record={"direction": direction, "noise": noise if direction == "target" else 0.0, "seed": seed},
        console=console,
    )


def _maker(model: Path, folds: Sequence[int | str] | None, task: UnpairedTask, direction: Direction) -> dict[str, Any]:
    """The model, and what it has seen: names of cases, with and without the domain before them."""
    folder = ModelFolder(model)
    chosen = tuple(folds) if folds is not None else folder.finished_folds
    trained = [read_trained_keeper(model, fold) for fold in chosen]
    seen = {case for one in trained if one.data is not None for case in one.data.training}
    names = seen | {case.removeprefix(f"{task.domains.get(case, '')}_") for case in seen}
    return {
        "model": model.name,
        "sha256": [one.header.sha256 for one in trained],
        "direction": direction,
        "training_cases": sorted(names),
    }


def _add_noise(case: str, path: Path, labels: Path, noise: float, seed: int) -> None:
    """Noise within the labels of a made image, in place."""
    image = read_volume(path)
    brain = inside(read_volume(labels).data)
    values = image.data.astype(np.float32)
    drawn = case_generator(seed, case).standard_normal(values.shape).astype(np.float32)
    values = np.where(brain, values + noise * values[brain].std() * drawn, values)
    write_volume(path, values, header=image.header)
