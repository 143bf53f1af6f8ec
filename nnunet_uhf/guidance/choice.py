"""Which keeper guides a training: the plans' own, the one nnUNet_UHF_KKN names, or the one already trained with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import KeeperFileError, MatchError, UHFError
from nnunet_uhf.guidance.block import attach, check_guided_block
from nnunet_uhf.guidance.controls import controlled_block
from nnunet_uhf.guidance.matching import require_guide, spacing_ratio
from nnunet_uhf.keepers.file import find_keepers, read_header, read_keeper
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.guided.controls import has_drawn_keeper
from nnunet_uhf.networks.kinds import why_no_guide
from nnunet_uhf.networks.presets import PRESET_VARIABLE
from nnunet_uhf.nnunet.files import configuration_settings
from nnunet_uhf.nnunet.model_folder import ModelFolder

KEEPER_VARIABLE = "nnUNet_UHF_KKN"
BLOCK = "uhf"
# What decides the network's output; provenance is for people and may differ between two files with equal weights.
DECISIVE = ("control", "preset", "guide_channel", "spacing_ratio", "fusion")


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
    folder = ModelFolder.of(plans["dataset_name"], trainer, plans["plans_name"], configuration)
    resumable = folder.fold(fold).any_checkpoint is not None  # which holds all weights, the keeper's included
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
    if folder.plans_file.is_file():
        refuse_other_keeper(block, trained, folder)
    if has_drawn_keeper(block):
        return KeeperChoice(block, None)
    if file is None and not resumable:
        raise UHFError(_not_at_hand(block, paths))
    if file is not None:
        read_keeper(file)  # a damaged file is refused here, before nnU-Net makes folders
    return KeeperChoice(block, file)


def guided_block(plans: dict[str, Any], configuration: str) -> dict[str, Any] | None:
    """The `uhf` block of a configuration, inherited ones included; None when it has none.

    Raises:
        UHFError: when the block is not one that a guided segmentation can be built from.
    """
    block: dict[str, Any] | None = configuration_settings(plans, configuration).get(BLOCK)
    if block is not None:
        check_guided_block(block, where=f"plans {plans['plans_name']}, {configuration}")
    return block


def trained_block(folder: ModelFolder, configuration: str) -> dict[str, Any] | None:
    """The `uhf` block a model folder was trained with; None without a plans.json or a block in it.

    Raises:
        UHFError: when plans.json is damaged.
    """
    if not folder.plans_file.is_file():
        return None
    plans = folder.plans(advice="restore it from a copy, or move the folder away")
    return guided_block(plans, configuration)


def refuse_other_keeper(block: Mapping[str, Any], trained: Mapping[str, Any] | None, folder: ModelFolder) -> None:
    """Folds of one model folder are ensembled with one plans.json: they must share keeper and guidance."""
    advice = (
        "train under plans of their own (`nnunet-uhf plan`), point "
        f"{KEEPER_VARIABLE} back to that keeper, or move the folder away"
    )
    if trained is None:
        raise UHFError(f"{folder.plans_file}: the folds there were trained without a keeper; {advice}")
    wanted, present = block["keeper"]["sha256"], trained["keeper"]["sha256"]
    if wanted != present:
        raise UHFError(
            f"{folder.plans_file}: the folds there were trained with keeper {present[:8]}, not {wanted[:8]}; {advice}"
        )
    for key in DECISIVE:
        if block.get(key) != trained.get(key):
            if key == "preset":
                advice = f"set {PRESET_VARIABLE}={trained.get(key)}, or {advice}"
            raise UHFError(
                f"{folder.plans_file}: the folds there were trained with {key} {trained.get(key)}, "
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


def select_keeper(paths: Sequence[str | Path], *, dim: int, spacing: Sequence[float] | None = None) -> KeeperHeader:
    """Return the header of the one keeper of ``dim`` dimensions; among several, the one whose spacing fits within 10 %.

    Files that can enhance but not guide are passed over where there is another one. Copies of the same weights count
    as one.

    Args:
        paths: keeper files, as :func:`nnunet_uhf.keepers.file.find_keepers` gives them.
        dim: 2 or 3.
        spacing: of the configuration, in mm, transposed axis order; decides between several keepers.

    Raises:
        MatchError: none fits, or it is undecided which of several shall be used.
        KeeperFileError: a file is no keeper file.
    """
    if not paths:
        raise MatchError("No keeper file is given. Set nnUNet_UHF_KKN to a keeper file or a folder of them.")
    headers = {Path(path): read_header(path) for path in paths}
    fitting = {path: header for path, header in headers.items() if header.dim == dim}
    if not fitting:
        listed = ", ".join(f"{path} ({header.dim}D)" for path, header in headers.items())
        raise MatchError(f"No keeper for {dim}D among {listed}. Add one to nnUNet_UHF_KKN.")
    guides = {path: h for path, h in fitting.items() if why_no_guide(h.network, h.architecture) is None}
    if not guides:
        require_guide(next(iter(fitting.values())))
    exact = {
        path: header for path, header in guides.items() if spacing is not None and _is_exact(spacing, header.spacing_mm)
    }
    return guides[_only_one(exact or guides, f"{dim}D")]


def _is_exact(spacing: Sequence[float], keeper_spacing: Sequence[float]) -> bool:
    try:
        return all(ratio == 1.0 for ratio in spacing_ratio(spacing, keeper_spacing, configuration=""))
    except MatchError:
        return False


def _only_one(keepers: Mapping[Path, KeeperHeader], what: str) -> Path:
    if len({header.sha256 for header in keepers.values()}) > 1:
        listed = ", ".join(str(path) for path in keepers)
        raise MatchError(f"Several different keepers fit {what}: {listed}. Name only the one to use.")
    return next(iter(keepers))


def _fitting_block(
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    files: Mapping[Path, KeeperHeader],
    preset: str,
) -> dict[str, Any]:
    """Return the block of the one keeper that fits; of several, of the one at the configuration's own spacing."""
    dim = len(configuration_settings(plans, configuration)["patch_size"])
    candidates = {path: header for path, header in files.items() if header.dim == dim}
    if not candidates:
        listed = ", ".join(f"{path} ({header.dim}D)" for path, header in files.items()) or "no file"
        raise MatchError(f"Configuration {configuration} is {dim}D, but no keeper given is: {listed}. Add one.")
    blocks: dict[Path, dict[str, Any]] = {}
    refusals: list[str] = []
    for path, header in candidates.items():
        try:
            blocks[path] = attach(plans, configuration, dataset_json, header, preset=preset)
        except MatchError as error:
            refusals.append(f"{path}: {error}")
    if not blocks:
        raise MatchError(f"No keeper fits configuration {configuration}. {' '.join(refusals)}")
    exact = [path for path, block in blocks.items() if all(ratio == 1.0 for ratio in block["spacing_ratio"])]
    chosen = _only_one({path: candidates[path] for path in exact or blocks}, f"configuration {configuration}")
    return blocks[chosen]
