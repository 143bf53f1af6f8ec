"""Which keeper guides a training: the plans' own, the one nnUNet_UHF_KKN names, or the one already trained with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_uhf.controls import controlled_block, has_drawn_keeper
from nnunet_uhf.errors import KeeperFileError, UHFError
from nnunet_uhf.guided_block import check_guided_block
from nnunet_uhf.keeper_file import find_keepers, read_header, read_keeper
from nnunet_uhf.nnunet_files import read_json, root_folder
from nnunet_uhf.plans import attach, configuration_settings, select_keeper
from nnunet_uhf.presets import PRESET_VARIABLE

KEEPER_VARIABLE = "nnUNet_UHF_KKN"
BLOCK = "uhf"
# What decides the network's output; provenance is for people and may differ between two files with equal weights.
DECISIVE = ("control", "preset", "guide_channel", "spacing_ratio", "fusion")
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


@dataclass(frozen=True)
class KeeperChoice:
    """The `uhf` block of a training, and the keeper file with its weights when one is at hand."""

    block: dict[str, Any]
    path: Path | None


def choose_keeper(
    plans: dict[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    *,
    trainer: str,
    fold: int | str,
    control: str | None = None,
    seed: int = 0,
) -> KeeperChoice:
    """Find the keeper of one training without writing anything.

    The order is: a block in the plans, a fitting file of ``nnUNet_UHF_KKN``, the block the model folder was trained
    with (only where a checkpoint can be continued or validated, which also holds the keeper's weights).
    A ``control`` changes the block; where it draws its keeper from ``seed``, the file gives the architecture alone.

    Raises:
        UHFError: no keeper, a keeper file that is missing, or a model folder trained with another keeper.
    """
    folder = model_folder(plans, configuration, trainer)
    resumable = has_checkpoint(folder, fold)
    trained = trained_block(folder, configuration)
    block = guided_block(plans, configuration)
    paths = _keeper_paths(optional=resumable)
    if block is None and paths:
        settings = configuration_settings(plans, configuration)
        header = select_keeper(paths, dim=len(settings["patch_size"]), spacing=settings["spacing"])
        block = attach(plans, configuration, dataset_json, header)
    if block is None and resumable:
        block = trained
    if block is None:
        raise UHFError(
            f"no keeper: set {KEEPER_VARIABLE} to a keeper file (*.safetensors), or train one with "
            "`nnunet-uhf pretrain`"
        )
    file = file_with_weights(paths, block["keeper"]["sha256"])
    block = controlled_block(
        block,
        control,
        seed=seed,
        header=None if file is None else read_header(file),
        trained=trained,
        where=f"plans {plans['plans_name']}, {configuration}",
    )
    if (folder / "plans.json").is_file():
        refuse_other_keeper(block, trained, folder)
    if has_drawn_keeper(block):
        return KeeperChoice(block, None)
    if file is None and not resumable:
        raise UHFError(_not_at_hand(block, paths))
    if file is not None:
        read_keeper(file)  # a damaged file is refused here, before nnU-Net makes folders
    return KeeperChoice(block, file)


def model_folder(plans: Mapping[str, Any], configuration: str, trainer: str) -> Path:
    """nnU-Net's folder of the folds of one trainer, plans and configuration."""
    dataset = root_folder("nnUNet_results") / plans["dataset_name"]
    return dataset / f"{trainer}__{plans['plans_name']}__{configuration}"


def has_checkpoint(folder: Path, fold: int | str) -> bool:
    """Whether a fold of a model folder has a checkpoint, which holds all weights, the keeper's included."""
    return any((folder / f"fold_{fold}" / name).is_file() for name in CHECKPOINTS)


def guided_block(plans: dict[str, Any], configuration: str) -> dict[str, Any] | None:
    """The `uhf` block of a configuration, inherited ones included; None when it has none.

    Raises:
        UHFError: when the block is not one that a guided segmentation can be built from.
    """
    block: dict[str, Any] | None = configuration_settings(plans, configuration).get(BLOCK)
    if block is not None:
        check_guided_block(block, where=f"plans {plans['plans_name']}, {configuration}")
    return block


def trained_block(folder: Path, configuration: str) -> dict[str, Any] | None:
    """The `uhf` block a model folder was trained with; None without a plans.json or a block in it.

    Raises:
        UHFError: when plans.json is damaged.
    """
    plans_file = folder / "plans.json"
    if not plans_file.is_file():
        return None
    plans = read_json(plans_file, advice="restore it from a copy, or move the folder away")
    return guided_block(plans, configuration)


def refuse_other_keeper(block: Mapping[str, Any], trained: Mapping[str, Any] | None, folder: Path) -> None:
    """Folds of one model folder are ensembled with one plans.json: they must share keeper and guidance."""
    advice = (
        "train under plans of their own (`nnunet-uhf plan`), point "
        f"{KEEPER_VARIABLE} back to that keeper, or move the folder away"
    )
    if trained is None:
        raise UHFError(f"{folder / 'plans.json'}: the folds there were trained without a keeper; {advice}")
    wanted, present = block["keeper"]["sha256"], trained["keeper"]["sha256"]
    if wanted != present:
        raise UHFError(
            f"{folder / 'plans.json'}: the folds there were trained with keeper {present[:8]}, not {wanted[:8]}; "
            f"{advice}"
        )
    for key in DECISIVE:
        if block.get(key) != trained.get(key):
            if key == "preset":
                advice = f"set {PRESET_VARIABLE}={trained.get(key)}, or {advice}"
            raise UHFError(
                f"{folder / 'plans.json'}: the folds there were trained with {key} {trained.get(key)}, "
                f"not {block.get(key)}; {advice}"
            )


def file_with_weights(paths: list[Path], sha256: str) -> Path | None:
    """The keeper file whose keeper has this hash."""
    return next((path for path in paths if read_header(path).sha256 == sha256), None)


def _keeper_paths(*, optional: bool) -> list[Path]:
    """Files of the variable; where a checkpoint holds the weights anyway, a stale variable is no obstacle."""
    try:
        return find_keepers(os.environ.get(KEEPER_VARIABLE))
    except KeeperFileError:
        if optional:
            return []
        raise


def _not_at_hand(block: Mapping[str, Any], paths: list[Path]) -> str:
    wanted = block["keeper"]["sha256"][:8]
    present = ", ".join(f"{path.name} is {read_header(path).sha256[:8]}" for path in paths) or "it names none"
    return f"the plans ask for keeper {wanted}, which {KEEPER_VARIABLE} does not hold ({present}); set it to that file"
