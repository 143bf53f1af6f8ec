"""``nnunet-uhf prolong``: a finished fold becomes the first part of a longer training (ours)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.files import dataset_name
from nnunet_uhf.nnunet.model_folder import BEST, LATEST, ModelFolder
from nnunet_uhf.trainers.lengths import LONGEST, base_and_length, suffix_of_length

_NEEDED = ("current_epoch", "optimizer_state", "logging")


def prolong(
    dataset: str | int,
    configuration: str,
    fold: int | str,
    *,
    trainer: str,
    epochs: int,
    plans: str = "nnUNetPlans",
) -> ModelFolder:
    """Put a finished fold where the trainer of more epochs goes on with ``--c``; what is finished stays as it is.

    Weights, optimiser, log and the record of the data come along, so that the longer training starts after the last
    epoch of the shorter one, and is refused where split, images or keeper have changed since. Its learning rate is the
    one that its own schedule has at that epoch: it rises once and falls again.

    Args:
        dataset: number or name.
        configuration: such as 3d_fullres.
        fold: number of the fold, or "all".
        trainer: that trained it, nnU-Net's own or one of ours, with or without a length in its name.
        epochs: of the whole longer training, more than it has been trained for, 9999 at most.
        plans: plans name.

    Returns:
        The model folder of the longer trainer, ``TRAINER_100epochs``.

    Raises:
        UHFError: the fold is not finished or damaged, `epochs` are no more than it has, the trainer's name is of a
            kind that has no lengths, or the longer training has begun already.
    """
    name = dataset_name(dataset)
    source = ModelFolder.of(name, trainer, plans, configuration)
    target = ModelFolder.of(name, longer_trainer(trainer, epochs), plans, configuration)
    finished, begun = source.fold(fold), target.fold(fold)
    if not finished.checkpoint.is_file():
        raise UHFError(
            f"{finished.checkpoint}: this fold is not finished; one that was stopped goes on with "
            f"`nnUNetv2_train {name} {configuration} {fold} -tr {trainer} -p {plans} --c`"
        )
    last = _read(finished.checkpoint)
    if epochs <= last["current_epoch"]:
        raise UHFError(f"{finished.checkpoint}: {last['current_epoch']} epochs are trained; ask for more (--epochs)")
    if begun.any_checkpoint is not None:
        raise UHFError(
            f"{begun.path} has been trained already; go on there with --c, or move that folder away to prolong anew"
        )
    best = _read(finished.path / BEST) if (finished.path / BEST).is_file() else None
    _copy_descriptions(source, target)
    begun.path.mkdir(parents=True, exist_ok=True)
    if best is not None:
        _write(best, begun.path / BEST, target)
    _write(last, begun.path / LATEST, target)  # last: by this file the fold counts as begun
    return target


def longer_trainer(trainer: str, epochs: int) -> str:
    """``UHFTrainer_50epochs``, 100 -> ``UHFTrainer_100epochs``.

    Raises:
        UHFError: there is no trainer of such a name at lengths, or not at that one.
    """
    if not 1 <= epochs <= LONGEST:
        raise UHFError(f"--epochs {epochs}: choose 1 to {LONGEST}")
    found = base_and_length(trainer)
    base = trainer if found is None else found[0]
    longer = base + suffix_of_length(epochs)
    if base_and_length(longer) is None:
        raise UHFError(f"-tr {trainer}: there are lengths of trainers without an underscore in their names alone")
    return longer


def _read(checkpoint: Path) -> dict[str, Any]:
    content = load_checkpoint_weights(checkpoint)
    missing = [name for name in _NEEDED if name not in content]
    if missing:
        raise UHFError(f"{checkpoint}: no training can go on from it, it lacks {', '.join(missing)}")
    return content


def _write(content: Mapping[str, Any], path: Path, target: ModelFolder) -> None:
    with written_whole(path) as temporary:
        torch.save({**content, "trainer_name": target.name.trainer}, temporary)


def _copy_descriptions(source: ModelFolder, target: ModelFolder) -> None:
    """plans.json and dataset.json, by which a keeper is recognised; those of folds that are there stay."""
    plans, description = source.plans(), source.dataset_json()
    target.path.mkdir(parents=True, exist_ok=True)
    for content, path in ((plans, target.plans_file), (description, target.dataset_file)):
        if not path.is_file():
            with written_whole(path) as temporary:
                temporary.write_text(json.dumps(content, indent=4, sort_keys=False), encoding="utf-8")
    fingerprint = "dataset_fingerprint.json"
    if (source.path / fingerprint).is_file() and not (target.path / fingerprint).is_file():
        shutil.copyfile(source.path / fingerprint, target.path / fingerprint)
