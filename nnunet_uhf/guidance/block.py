"""The `uhf` block of a guided configuration, as it comes from a plans file: not trusted before it is checked (ours)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nnunet_uhf.errors import KeeperFileError, UHFError
from nnunet_uhf.guidance.matching import MAX_SPACING_RATIO, match
from nnunet_uhf.keepers.header import KeeperHeader, check_architecture
from nnunet_uhf.networks.guided.controls import CONTROLS, ENHANCED_INPUT, MAX_SEED, has_drawn_keeper
from nnunet_uhf.networks.guided.fusion_kinds import is_fusion_entry
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK, why_no_guide
from nnunet_uhf.networks.presets import PRESETS, guidance_preset
from nnunet_uhf.nnunet.files import configuration_settings

FORMAT = 1
_REMEDY = "write the plans again with `nnunet-uhf plan`, or take the plans.json of the original model folder"


def check_guided_block(block: Mapping[str, Any], *, where: str) -> None:
    """Make sure that a guided network can be built from the block, and that it is not absurdly large.

    Args:
        block: `plans["configurations"][name]["uhf"]`.
        where: file or plans it comes from, for the message.

    Raises:
        UHFError: the entry that is missing or out of range.
    """
    if block.get("role") != "guided":
        raise UHFError(
            f"{where}: a uhf block of role {block.get('role')!r}; a guided training needs plans written by "
            "`nnunet-uhf plan`, or plans without a block"
        )
    if block.get("format") != FORMAT:
        raise UHFError(f"{where}: uhf block of format {block.get('format')!r}, this version reads {FORMAT}; update it")
    keeper = block.get("keeper")
    architecture = keeper.get("architecture") if isinstance(keeper, Mapping) else None
    if not isinstance(keeper, Mapping) or not isinstance(architecture, Mapping):
        raise UHFError(f"{where}: the uhf block names no keeper; {_REMEDY}")
    network = keeper.get("network", DEFAULT_NETWORK)
    dim = architecture.get("dim")
    if dim not in (2, 3):
        raise UHFError(f"{where}: the keeper of the uhf block has dim {dim!r}, not 2 or 3; {_REMEDY}")
    try:
        check_architecture(architecture, dim=dim, where="the keeper of the uhf block", network=network)
    except KeeperFileError as error:
        raise UHFError(f"{where}: {error}") from error
    reason = why_no_guide(network, architecture)
    if reason is not None:
        raise UHFError(f"{where}: the keeper of the uhf block cannot guide: {reason}; {_REMEDY}")
    entries = {
        "keeper.sha256": isinstance(keeper.get("sha256"), str) and len(keeper["sha256"]) == 64,
        "keeper.provenance": isinstance(keeper.get("provenance"), Mapping),
        "guide_channel": type(block.get("guide_channel")) is int and block["guide_channel"] >= 0,
        "spacing_ratio": _is_ratio(block.get("spacing_ratio"), dim),
        "preset": block.get("preset") in list(PRESETS),
        "fusion": is_fusion_entry(block.get("fusion")),
    }
    wrong = [name for name, fits in entries.items() if not fits]
    if wrong:
        raise UHFError(f"{where}: the uhf block has no valid {', '.join(wrong)}; {_REMEDY}")
    _check_control(block, dim=dim, where=where)


def _check_control(block: Mapping[str, Any], *, dim: int, where: str) -> None:
    """UHFError for an unknown control, or one that lacks what its network is built from."""
    control, keeper = block.get("control"), block["keeper"]
    if control is not None and (not isinstance(control, str) or control not in CONTROLS):
        raise UHFError(f"{where}: the uhf block has the unknown control {control!r:.80}; {_REMEDY}")
    seed = keeper.get("seed")
    if has_drawn_keeper(block) and (type(seed) is not int or not 0 <= seed <= MAX_SEED):
        raise UHFError(f"{where}: the uhf block has no valid keeper.seed; {_REMEDY}")
    if control != ENHANCED_INPUT:
        return
    decoder = keeper.get("decoder")
    architecture = decoder.get("architecture") if isinstance(decoder, Mapping) else None
    if not isinstance(architecture, Mapping) or not isinstance(decoder.get("sha256"), str):
        raise UHFError(f"{where}: the uhf block names no decoder for the enhanced input; {_REMEDY}")
    try:
        check_architecture(
            architecture,
            dim=dim,
            where="the decoder of the uhf block",
            name="decoder_architecture",
            network=keeper.get("network", DEFAULT_NETWORK),
        )
    except KeeperFileError as error:
        raise UHFError(f"{where}: {error}") from error


def _is_ratio(value: object, dim: int) -> bool:
    if not isinstance(value, list | tuple) or len(value) != dim:
        return False
    return all(isinstance(r, int | float) and 1 / MAX_SPACING_RATIO <= r <= MAX_SPACING_RATIO for r in value)


def attach(
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    header: KeeperHeader,
    *,
    preset: str | None = None,
) -> dict[str, Any]:
    """Return the guided ``uhf`` block that ties a keeper to one configuration; ``plans`` stay untouched.

    The guide channel goes by name; the environment variable ``nnUNet_UHF_GUIDE_CHANNEL`` (name or index) decides
    where names differ. What a log should say of the fit: :func:`nnunet_uhf.guidance.matching.match_notes`. Without
    ``preset`` the environment variable ``nnUNet_UHF_PRESET`` names it, else it is the reference.

    Raises:
        MatchError: what differs between keeper and configuration, and how to proceed.
        UHFError: there is no such preset.
    """
    chosen = guidance_preset(preset)
    settings = configuration_settings(plans, configuration)
    guide, ratio = match(
        header=header,
        configuration=configuration,
        settings=settings,
        plans=plans,
        dataset_json=dataset_json,
    )
    return {
        "format": FORMAT,
        "role": "guided",
        "preset": chosen,
        "keeper": {
            **({} if header.network == DEFAULT_NETWORK else {"network": header.network}),
            "architecture": json.loads(json.dumps(header.architecture)),
            "sha256": header.sha256,
            "provenance": header.provenance(),
        },
        "guide_channel": guide,
        "spacing_ratio": ratio,
        "fusion": dict(PRESETS[chosen].fusion),
    }
