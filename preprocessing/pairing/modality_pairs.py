"""Pairs whose high-field half a Uni-COAL model made, for a keeper or SIQT (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.nifti import read_volume
from nnunet_uhf.inference.enhancer import load_enhancer
from nnunet_uhf.inference.modality_enhance import enhance_modality
from nnunet_uhf.inference.modality_request import modalities_of
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.keepers.trained import read_trained_keeper
from nnunet_uhf.nnunet.dataset_json import channel_names
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.preprocessing.datasets.write import paired_block
from nnunet_uhf.preprocessing.pairing.made_pairs import write_made_pairs
from nnunet_uhf.routes.modalities import MODALITIES


def modality_pairs(
    dataset: Path,
    output: Path,
    model: Path,
    *,
    source: str,
    target: str,
    axis: str | None = None,
    folds: Sequence[int | str] | None = None,
    device: str | torch.device = "cuda",
    console: Console | None = None,
) -> Path:
    """Write a dataset of pairs: the true scans of one channel, and what the model makes of them.

    The dataset names the model and the cases that it has seen; it appears complete or not at all. Cases whose scan is
    missing, a constant channel, are left out.

    Args:
        dataset: raw dataset with a channel of the source's name, and labels.
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        model: keeper file or results folder of a Uni-COAL trainer.
        source: a modality that the model reads, the low-field one.
        target: a modality that it makes.
        axis: of the slices, as for `enhance`.
        folds: of a results folder, averaged; by default all finished ones.
        device: torch device.
        console: shows progress when given.

    Raises:
        UHFError: no such channel or modality, no Uni-COAL model, or as `enhance`.
    """
    description = read_json(dataset / "dataset.json", advice="name a raw dataset, DatasetXXX_NAME")
    names = channel_names(description, where=dataset / "dataset.json")
    if source not in names:
        raise UHFError(f"{dataset} has no channel {source!r} (--from); it has {', '.join(names)}")
    if source == target:
        raise UHFError(f"--from and --to are both {source}: a keeper learns from one modality to another")
    enhancer = load_enhancer(model, folds=folds)
    known = modalities_of(enhancer)
    if source not in known.sources or target not in known.targets:
        raise UHFError(
            f"{model} makes {', '.join(known.targets)} of {', '.join(known.sources)}, not {target} of {source}"
        )
    ending = str(description["file_ending"])
    suffix = f"_{names.index(source):04d}{ending}"
    scans = {path.name.removesuffix(suffix): path for path in sorted((dataset / "imagesTr").glob(f"*{suffix}"))}
    scans = {case: path for case, path in scans.items() if np.ptp(read_volume(path).data) > 0}
    if not scans:
        raise UHFError(f"{dataset}: no case has a scan of {source}")
    block = paired_block(
        output,
        source_channel=source,
        target_channel=target,
        source_field_T=known.tesla[source],
        target_field_T=known.tesla[target],
        route=MODALITIES.name,
    )
    block["made_by"] = {
        "model": enhancer.name,
        "sha256": [header.sha256 for header in enhancer.headers],
        "training_cases": _seen(Path(model), enhancer.headers),
    }

    def make(given: Path, made: Path) -> None:
        enhance_modality(
            given,
            made,
            model,
            to=target,
            source=source,
            axis=axis,
            folds=folds,
            device=device,
            console=console,
            progress=console is not None,
        )

    return write_made_pairs(
        output,
        true=scans,
        make=make,
        channels=(source, target),
        true_half=0,
        dataset=dataset,
        description=description,
        block=block,
        console=console,
    )


def _seen(model: Path, headers: Sequence[KeeperHeader]) -> list[str]:
    """Cases that the model was trained on: a keeper file says them, a results folder has recorded them."""
    if not model.is_dir():
        return sorted({case for header in headers for case in header.training_cases})
    trained = [read_trained_keeper(model, header.fold) for header in headers]
    return sorted({case for one in trained if one.data is not None for case in one.data.training})
