"""What nnU-Net recorded of the trainings of a model folder: curves, times, parameters, device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.checkpoints import last_loudness, load_checkpoint_weights, recorded_seed
from nnunet_uhf.nnunet.files import read_json
from nnunet_uhf.nnunet.model_folder import FoldFolder
from nnunet_uhf.report.entries import Entry

if TYPE_CHECKING:
    import torch

#: nnU-Net's logger keys of the curves that are shown, and their titles
CURVES = {"train_losses": "training loss", "val_losses": "validation loss", "ema_fg_dice": "pseudo Dice (EMA)"}
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_WRAPPERS = ("_orig_mod.", "module.")


@dataclass(frozen=True)
class Training:
    """One fold.

    Attributes:
        fold: its number, or "all".
        curves: values by epoch, by key of :data:`CURVES`.
        epoch_seconds: duration of every epoch.
        parameters: of the network, each counted once.
        keeper_parameters: those of them that belong to a keeper.
        device: such as "cuda, NVIDIA A100"; None when not recorded.
        loudness: of the guidance of every stage in the last epoch, finest first; empty where none is recorded.
        seed: that decided all that was drawn; None without one.
        problem: why nothing of it is known, or None.
    """

    fold: str
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    epoch_seconds: Sequence[float] = ()
    parameters: int | None = None
    keeper_parameters: int | None = None
    device: str | None = None
    loudness: Sequence[float] = ()
    seed: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Cost:
    """What an entry's trainings cost; None is "not recorded"."""

    entry: str
    trainer: str | None = None
    configuration: str | None = None
    folds: int | None = None
    epochs: int | None = None
    epoch_seconds: float | None = None
    training_hours: float | None = None
    parameters: int | None = None
    keeper_parameters: int | None = None
    loudness: str | None = None
    patch_size: str | None = None
    batch_size: int | None = None
    device: str | None = None


def read_trainings(entry: Entry) -> list[Training]:
    """The trainings of the compared folds of a model folder; none for a folder of predictions."""
    return [_read_training(fold, folder) for fold, folder in entry.fold_folders.items()]


def cost_of(entry: Entry, trainings: Sequence[Training]) -> Cost:
    """The cost of an entry over its folds.

    Epoch time is the median over the epochs of all folds, without each training's first one where it has others:
    compiling and benchmarking of kernels happen in it.
    """
    if not entry.is_model:
        return Cost(entry.name)
    known = [training for training in trainings if training.problem is None]
    seconds = [s for training in known for s in training.epoch_seconds[len(training.epoch_seconds) > 1 :]]
    whole = [s for training in known for s in training.epoch_seconds]
    settings = entry.settings
    devices = sorted({training.device for training in trainings if training.device is not None})
    patch = settings.get("patch_size")
    return Cost(
        entry=entry.name,
        trainer=entry.trainer,
        configuration=entry.configuration,
        folds=len(trainings),
        epochs=max((len(training.epoch_seconds) for training in known), default=None),
        epoch_seconds=median(seconds) if seconds else None,
        training_hours=sum(whole) / 3600 if whole and len(known) == len(trainings) else None,
        parameters=max((training.parameters or 0 for training in known), default=None),
        keeper_parameters=max((training.keeper_parameters or 0 for training in known), default=None),
        loudness=_loudness(known),
        patch_size=" x ".join(map(str, patch)) if patch else None,
        batch_size=settings.get("batch_size"),
        device="; ".join(devices) or None,
    )


def count_parameters(weights: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """Parameters of a state dict, and those of its keeper.

    nnU-Net's networks list some of their tensors under several names: they share memory, and are counted once.
    """
    whole = keeper = 0
    seen = set()
    for name, tensor in weights.items():
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.numel())
        if place in seen or name.endswith(_BUFFERS):
            continue
        seen.add(place)
        whole += tensor.numel()
        for prefix in _WRAPPERS:
            name = name.removeprefix(prefix)  # of DDP and torch.compile
        keeper += tensor.numel() if name.startswith("keeper.") else 0
    return whole, keeper


def _read_training(fold: str, folder: FoldFolder) -> Training:
    device = _device(folder.path / "debug.json")
    path = folder.any_checkpoint
    if path is None:
        return Training(fold, device=device, problem=f"{folder.path.name} holds no checkpoint")
    try:
        checkpoint = load_checkpoint_weights(path)
    except UHFError as error:
        return Training(fold, device=device, problem=str(error))
    log = checkpoint.get("logging", {})
    curves = {key: [float(value) for value in log[key]] for key in CURVES if log.get(key)}
    starts, ends = (log.get(f"epoch_{which}_timestamps", []) for which in ("start", "end"))
    seconds = [float(end) - float(start) for start, end in zip(starts, ends, strict=False)]
    parameters, keeper = count_parameters(checkpoint["network_weights"])
    return Training(
        fold, curves, seconds, parameters, keeper, device, last_loudness(checkpoint), recorded_seed(checkpoint)
    )


def seed_of(entry: Entry) -> int | None:
    """The seed that all compared folds of a model were trained with; None where there is none, or several."""
    seeds = {training.seed for training in read_trainings(entry)}
    return seeds.pop() if len(seeds) == 1 else None


def _loudness(trainings: Sequence[Training]) -> str | None:
    """Of every stage, finest first, the mean over the folds."""
    measured = [training.loudness for training in trainings if training.loudness]
    return " ".join(f"{mean(stage):.3f}" for stage in zip(*measured, strict=False)) or None


def _device(path: Path) -> str | None:
    """The device of nnU-Net's debug.json, with the name of the GPU; never the host's."""
    try:
        noted: dict[str, Any] = read_json(path, advice="it only names the device")
    except UHFError:
        return None
    names = [noted.get("device"), noted.get("gpu_name")]
    return ", ".join(str(name) for name in names if name not in (None, "None")) or None
