"""Which keeper guides a training: the plans' own, the one nnUNet_UHF_KKN names, or the one already trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_uhf.errors import KeeperFileError, MatchError, UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.controls import controlled_block
from nnunet_uhf.guidance.keeper_files import KEEPER_VARIABLE, Candidate, KeeperAtHand, KeeperFiles
from nnunet_uhf.keepers.packaged import builtin_keepers, builtin_name
from nnunet_uhf.networks.presets import PRESET_VARIABLE, present_name
from nnunet_uhf.nnunet.model_folder import ModelFolder


@dataclass(frozen=True)
class KeeperChoice:
    """The `uhf` block of a training, and the keeper file with its weights when one is at hand."""

    block: GuidedBlock
    file: KeeperAtHand | None
    note: str | None = None
    """What the log is to say of a keeper that nobody named."""


def choose_keeper(
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    *,
    trainer: str,
    fold: int | str,
    control: str | None = None,
    seed: int = 0,
) -> KeeperChoice:
    """Find the keeper of one training without writing anything.

    The order is: a block in the plans, a fitting file of ``nnUNet_UHF_KKN`` (:meth:`KeeperFiles.choose`), the block the
    model folder was trained with (only where a checkpoint can be continued or validated, which also holds the keeper's
    weights), a fitting keeper of the package. A ``control`` changes the block; where it draws its keeper from ``seed``,
    the file gives the architecture alone.

    Raises:
        UHFError: no keeper, a keeper file that is missing, or a model folder trained with another keeper.
    """
    folder = ModelFolder.of(plans["dataset_name"], trainer, plans["plans_name"], configuration)
    resumable = folder.fold(fold).any_checkpoint is not None  # which holds all weights, the keeper's included
    trained = trained_block(folder, configuration)
    block = GuidedBlock.of(plans, configuration)
    files = _files(optional=resumable)
    if block is None and files:
        block = files.choose(plans, configuration, dataset_json).block
    if block is None and resumable:
        block = trained
    packaged = KeeperFiles(builtin_keepers())
    note = None
    if block is None:
        chosen = _packaged(packaged, plans, configuration, dataset_json)
        block, note = chosen.block, _note(chosen.file)
    file = files.with_hash(block.keeper.sha256) or packaged.with_hash(block.keeper.sha256)
    block = controlled_block(
        block,
        control,
        seed=seed,
        header=None if file is None else file.header,
        trained=trained,
        where=f"plans {plans['plans_name']}, {configuration}",
    )
    if folder.plans_file.is_file():
        refuse_other_keeper(block, trained, folder)
    if block.has_drawn_keeper:
        return KeeperChoice(block, None)
    if file is None and not resumable:
        raise UHFError(_not_at_hand(block, files))
    if file is not None:
        _ = file.content  # a damaged file is refused here, before nnU-Net makes folders
    return KeeperChoice(block, file, note)


def _packaged(
    packaged: KeeperFiles, plans: Mapping[str, Any], configuration: str, dataset_json: Mapping[str, Any]
) -> Candidate:
    """A keeper of the package for a training for which nobody named one."""
    wanted = f"set {KEEPER_VARIABLE} to a keeper file (*.safetensors), or train one with `nnunet-uhf pretrain`"
    if not packaged:
        raise UHFError(f"no keeper: {wanted}")
    try:
        return packaged.choose(plans, configuration, dataset_json)
    except MatchError as error:
        raise UHFError(f"no keeper: {wanted}. Those of the package do not fit: {error}") from error


def _note(file: KeeperAtHand) -> str:
    return (
        f"{KEEPER_VARIABLE} is not set: the package's own keeper guides, {builtin_name(file.path)} "
        f"(`nnunet-uhf inspect {builtin_name(file.path)}` says what it is); set {KEEPER_VARIABLE} for one of yours"
    )


def trained_block(folder: ModelFolder, configuration: str) -> GuidedBlock | None:
    """The `uhf` block a model folder was trained with; None without a plans.json or a block in it.

    Raises:
        UHFError: when plans.json is damaged.
    """
    if not folder.plans_file.is_file():
        return None
    plans = folder.plans(advice="restore it from a copy, or move the folder away")
    return GuidedBlock.of(plans, configuration)


def refuse_other_keeper(block: GuidedBlock, trained: GuidedBlock | None, folder: ModelFolder) -> None:
    """Folds of one model folder are ensembled with one plans.json: they must share keeper and guidance."""
    advice = (
        "train under plans of their own (`nnunet-uhf plan`), point "
        f"{KEEPER_VARIABLE} back to that keeper, or move the folder away"
    )
    if trained is None:
        raise UHFError(f"{folder.plans_file}: the folds there were trained without a keeper; {advice}")
    wanted, present = block.keeper.sha256, trained.keeper.sha256
    if wanted != present:
        raise UHFError(
            f"{folder.plans_file}: the folds there were trained with keeper {present[:8]}, not {wanted[:8]}; {advice}"
        )
    before = _decisive(trained)
    for name, value in _decisive(block).items():
        if value != before[name]:
            if name == "preset":
                advice = f"set {PRESET_VARIABLE}={before[name]}, or {advice}"
            raise UHFError(
                f"{folder.plans_file}: the folds there were trained with {name} {before[name]}, not {value}; {advice}"
            )


def _decisive(block: GuidedBlock) -> dict[str, Any]:
    """What decides the network's output; provenance may differ between two files with equal weights."""
    return {
        "control": block.control,
        "preset": present_name(block.preset, block.fusion),
        "guide_channel": block.guide_channel,
        "spacing_ratio": block.spacing_ratio,
        "fusion": block.fusion,
    }


def _files(*, optional: bool) -> KeeperFiles:
    """Files of the variable; where a checkpoint holds the weights anyway, a stale variable is no obstacle."""
    try:
        return KeeperFiles.of_environment()
    except KeeperFileError:
        if optional:
            return KeeperFiles(())
        raise


def _not_at_hand(block: GuidedBlock, files: KeeperFiles) -> str:
    present = ", ".join(f"{file.path.name} is {file.header.sha256[:8]}" for file in files) or "it names none"
    wanted = block.keeper.sha256[:8]
    return f"the plans ask for keeper {wanted}, which {KEEPER_VARIABLE} does not hold ({present}); set it to that file"
