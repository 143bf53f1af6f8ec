"""Is a model folder, or a zip file of one, what it says? Looked at without running anything of it (ours).

Nothing is unpickled, and no class that the plans name is imported. What passes may still be a bad model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.entries import ROLE
from nnunet_uhf.guidance.guard import kept_hashes
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.nnunet.archives import member_faults, unpack_models
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.files import configuration_settings, read_json
from nnunet_uhf.nnunet.model_folder import CHECKPOINTS, ModelFolder
from nnunet_uhf.nnunet.plans_block import block_in, role_of

_FETCH = "fetch the model again"
MAX_JSON_BYTES = 2**28
MAX_CHECKPOINT_BYTES = 16 * 2**30
TRUSTED = "dynamic_network_architectures."
"""Where the networks are that nnU-Net plans by itself."""


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """One thing that was looked at.

    Attributes:
        file: of the model, as a user would name it.
        said: what was found, in words.
        fault: whether it is wrong.
    """

    file: str
    said: str
    fault: bool = False


def verify(model: Path) -> list[ModelCheck]:
    """Everything that was looked at, in order.

    Args:
        model: model folder, or zip file of ``nnUNetv2_export_model_to_zip``.

    Raises:
        UHFError: there is no such folder or file, or it is neither.
    """
    if model.is_dir():
        return list(_checks(ModelFolder(model), str(model)))
    if not model.is_file():
        raise UHFError(f"{model} does not exist: give a model folder, or a zip file of one")
    faults = [ModelCheck(file=str(model), said=fault, fault=True) for fault in member_faults(model)]
    if faults:
        return faults
    checks = [ModelCheck(file=str(model), said="members stay in their folder, are files, and have sound sizes")]
    with tempfile.TemporaryDirectory(prefix="nnunet-uhf-verify-") as folder:
        try:
            for found in unpack_models(model, Path(folder)):
                told = _checks(found, f"{model}: {found.path.relative_to(folder)}")
                checks += [replace(check, said=check.said.replace(f"{folder}/", "")) for check in told]
        except UHFError as error:
            checks.append(ModelCheck(file=str(model), said=str(error), fault=True))
    return checks


def _checks(model: ModelFolder, name: str) -> Iterator[ModelCheck]:
    try:
        plans = _json(model.plans_file)
        _json(model.dataset_file)
    except UHFError as error:
        yield ModelCheck(file=name, said=str(error), fault=True)
        return
    yield ModelCheck(file=f"{name}/{model.plans_file.name}", said="plans and dataset.json are readable")
    found = [fold.path / one for fold in model.folds.values() for one in CHECKPOINTS if (fold.path / one).is_file()]
    if not found:
        yield ModelCheck(file=name, said=f"no fold with a checkpoint; {_FETCH}", fault=True)
    for path in found:
        shown = f"{name}/{path.relative_to(model.path)}"
        try:
            yield from _checkpoint(path, plans, shown)
        except UHFError as error:
            yield ModelCheck(file=shown, said=str(error), fault=True)


def _json(path: Path) -> dict[str, Any]:
    if path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
        raise UHFError(f"{path} has {path.stat().st_size} bytes, more than any plans; {_FETCH}")
    return read_json(path, advice=_FETCH)


def _checkpoint(path: Path, plans: Mapping[str, Any], shown: str) -> Iterator[ModelCheck]:
    if path.stat().st_size > MAX_CHECKPOINT_BYTES:
        raise UHFError(f"{path} has {path.stat().st_size} bytes, more than any checkpoint; {_FETCH}")
    checkpoint = load_checkpoint_weights(path)
    weights = checkpoint["network_weights"]
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise UHFError(f"{path} has entries among its weights that are none; {_FETCH}")
    broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise UHFError(f"{path} has weights that are no finite numbers ({broken[0]!r:.100}); {_FETCH}")
    count = sum(value.numel() for value in weights.values())
    yield ModelCheck(
        file=shown, said=f"{count:,} weights, plain values and nothing else; {path.stat().st_size / 2**20:.1f} MiB"
    )
    configuration = str(checkpoint["init_args"]["configuration"])
    try:
        yield from _plans(plans, configuration, shown)
        yield from _block(plans, configuration, checkpoint, path, shown)
    except (TypeError, ValueError, AttributeError, LookupError, AssertionError) as error:
        raise UHFError(f"{path}: plans.json is not what nnU-Net writes ({type(error).__name__}); {_FETCH}") from error


def _plans(plans: Mapping[str, Any], configuration: str, shown: str) -> Iterator[ModelCheck]:
    """A note where nnU-Net would import a network from elsewhere, which runs its code."""
    name = str(configuration_settings(plans, configuration)["architecture"]["network_class_name"])
    if not name.startswith(TRUSTED):
        yield ModelCheck(file=shown, said=f"note: nnU-Net will import {name!r:.200}, which is no network of its own")


def _block(
    plans: Mapping[str, Any], configuration: str, checkpoint: Mapping[str, Any], path: Path, shown: str
) -> Iterator[ModelCheck]:
    """The `uhf` block against the weights, and against the block that the checkpoint itself carries."""
    found = block_in(plans, configuration)
    role = role_of(found)
    if found is None:
        yield ModelCheck(file=shown, said=f"{configuration}: plain nnU-Net, no keeper")
        return
    if role != ROLE:
        TrainingBlock.parse(found, where=f"{path.parent.parent}/plans.json")
        yield ModelCheck(file=shown, said=f"{configuration}: uhf block of a training of a {role}")
        return
    block = GuidedBlock.of(plans, configuration, where=f"{path.parent.parent}/plans.json")
    assert block is not None
    for part, wanted in kept_hashes(block).items():
        present = weights_sha256(_part(checkpoint["network_weights"], part))
        if present != wanted:
            raise UHFError(f"{path} holds {part} {present[:8]}, plans.json names {wanted[:8]}; {_FETCH}")
    carried = checkpoint["init_args"].get("plans")
    if isinstance(carried, Mapping):
        own = GuidedBlock.of(carried, configuration, where=path)
        if own is None or own.spec != block.spec or own.keeper.sha256 != block.keeper.sha256:
            raise UHFError(f"{path} was trained with another uhf block than plans.json has; {_FETCH}")
    hashes = (
        "keeper is trained along" if not kept_hashes(block) else f"keeper {block.keeper.sha256[:8]} as plans name it"
    )
    ratio = " x ".join(f"{value:g}" for value in block.spacing_ratio)
    yield ModelCheck(file=shown, said=f"{configuration}: {hashes}, spacing ratio {ratio}")


def _part(weights: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
