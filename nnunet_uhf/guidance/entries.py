"""Every entry of a guided `uhf` block and what fits it: plans come from elsewhere, too (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_uhf.checks import is_int, is_list, is_number, is_text, is_whole_numbers
from nnunet_uhf.errors import KeeperFileError, UHFError
from nnunet_uhf.guidance.matching import MAX_SPACING_RATIO
from nnunet_uhf.keepers.fields import FIELDS
from nnunet_uhf.keepers.header import check_architecture
from nnunet_uhf.networks.guided.controls import CONTROLS, ENHANCED_INPUT, MAX_SEED, has_drawn_keeper
from nnunet_uhf.networks.guided.fusion_kinds import is_fusion_entry
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK, KINDS, why_no_guide
from nnunet_uhf.networks.presets import PRESETS, is_fusion_rate
from nnunet_uhf.nnunet.plans_block import FORMAT

ROLE = "guided"
MAX_CHANNEL = 999
MAX_PATCH = 4096
REMEDY = "write the plans again with `nnunet-uhf plan`, or take the plans.json of the original model folder"
#: Entries of the provenance that are shown or reckoned with, where they are stated. Drawn keepers have their own words.
_SHOWN = ("dataset", "configuration", "route")
_RECKONED = ("source_field_T", "target_field_T", "training_cases", "validation_cases", "metrics", "feature_statistics")
_PLANNED = {
    "batch_size": lambda value: is_int(value, 1, 1_000_000),
    "patch_size": lambda value: is_list(value, lambda size: is_int(size, 1, MAX_PATCH), 2, 3),
}


def check_block(block: Any, where: str | Path) -> None:
    """UHFError, which begins with ``where``, unless a block says all that a network is built from, within bounds."""
    role = block.get("role") if isinstance(block, Mapping) else None
    if role != ROLE:
        raise UHFError(
            f"{where}: a uhf block of role {role!r:.80}; a guided training needs plans written by "
            "`nnunet-uhf plan`, or plans without a block"
        )
    if not is_int(block.get("format"), FORMAT, FORMAT):
        raise UHFError(
            f"{where}: uhf block of format {block.get('format')!r:.80}, this version reads {FORMAT}; update it"
        )
    keeper = block.get("keeper")
    architecture = keeper.get("architecture") if isinstance(keeper, Mapping) else None
    if not isinstance(keeper, Mapping) or not isinstance(architecture, Mapping):
        raise UHFError(f"{where}: the uhf block names no keeper; {REMEDY}")
    network = keeper.get("network", DEFAULT_NETWORK)
    dim: Any = architecture.get("dim")
    if not is_int(dim, 2, 3):
        raise UHFError(f"{where}: the keeper of the uhf block has dim {dim!r:.80}, not 2 or 3; {REMEDY}")
    _check_architecture(architecture, dim=dim, where=where, network=network)
    reason = why_no_guide(network, architecture)
    if reason is not None:
        raise UHFError(f"{where}: the keeper of the uhf block cannot guide: {reason}; {REMEDY}")
    planned = block.get("planned")
    entries = {
        "keeper.sha256": is_hash(keeper.get("sha256")),
        "keeper.provenance": isinstance(keeper.get("provenance"), Mapping),
        "keeper.seed": keeper.get("seed") is None or is_int(keeper["seed"], 0, MAX_SEED),
        "guide_channel": _are_channels(block.get("guide_channel"), KINDS[network].in_channels(architecture)),
        "spacing_ratio": _is_ratio(block.get("spacing_ratio"), dim),
        "preset": block.get("preset") in list(PRESETS),
        "fusion": is_fusion_entry(block.get("fusion")),
        "source_plans": block.get("source_plans") is None or _is_name(block["source_plans"]),
        "fusion_rate": block.get("fusion_rate") is None or is_fusion_rate(block["fusion_rate"]),
        "planned": planned is None or (isinstance(planned, Mapping) and _fit(planned, _PLANNED)),
    }
    wrong = [name for name, fits in entries.items() if not fits] or _wrong_of_provenance(keeper["provenance"], dim)
    if wrong:
        raise UHFError(f"{where}: the uhf block has no valid {', '.join(wrong)}; {REMEDY}")
    _check_control(block.get("control"), keeper, dim=dim, where=where)


def is_hash(value: object) -> bool:
    """Whether a value is a SHA-256 in hexadecimal digits."""
    return FIELDS["sha256"][0](value)


def _check_architecture(
    architecture: Mapping[str, Any], *, dim: int, where: str | Path, network: object, decoder: bool = False
) -> None:
    try:
        check_architecture(
            architecture,
            dim=dim,
            where=f"the {'decoder' if decoder else 'keeper'} of the uhf block",
            name="decoder_architecture" if decoder else "architecture",
            network=network,
        )
    except KeeperFileError as error:
        raise UHFError(f"{where}: {error}") from error


def _check_control(control: Any, keeper: Mapping[str, Any], *, dim: int, where: str | Path) -> None:
    """UHFError for an unknown control, or one that lacks what its network is built from."""
    if control is not None and (not isinstance(control, str) or control not in CONTROLS):
        raise UHFError(f"{where}: the uhf block has the unknown control {control!r:.80}; {REMEDY}")
    if has_drawn_keeper(control) != (keeper.get("seed") is not None):
        raise UHFError(f"{where}: the uhf block has no valid keeper.seed; {REMEDY}")
    decoder, network = keeper.get("decoder"), keeper.get("network", DEFAULT_NETWORK)
    if control != ENHANCED_INPUT:
        if decoder is not None:
            raise UHFError(f"{where}: the uhf block names a decoder, which only the enhanced input has; {REMEDY}")
        return
    architecture = decoder.get("architecture") if isinstance(decoder, Mapping) else None
    if not isinstance(decoder, Mapping) or not isinstance(architecture, Mapping) or not is_hash(decoder.get("sha256")):
        raise UHFError(f"{where}: the uhf block names no decoder for the enhanced input; {REMEDY}")
    _check_architecture(architecture, dim=dim, where=where, network=network, decoder=True)
    problem = KINDS[network].decoder_problem(keeper["architecture"], architecture)
    if problem is not None:
        raise UHFError(f"{where}: keeper and decoder of the uhf block do not fit: {problem}; {REMEDY}")


def _wrong_of_provenance(origin: Mapping[str, Any], dim: int) -> list[str]:
    """Entries of a provenance that are stated and are not what they should be; further ones are nobody's concern."""

    def fits(name: str, value: Any) -> bool:
        if name in _SHOWN:
            return is_text(value)
        if name == "fold":
            return is_text(value) or is_int(value, 0, 999)
        if name in ("spacing_mm", "patch_size"):
            return FIELDS[name][0](value) and len(value) == dim
        return name not in _RECKONED or FIELDS[name][0](value)

    stated = {name: value for name, value in origin.items() if value is not None}
    return [f"keeper.provenance.{name}"[:80] for name, value in stated.items() if not fits(name, value)]


def _fit(entry: Mapping[str, Any], ranges: Mapping[str, Any]) -> bool:
    return entry.keys() <= ranges.keys() and all(ranges[name](value) for name, value in entry.items())


def _is_name(value: object) -> bool:
    """A name that is made part of a path, and leads nowhere else."""
    return is_text(value, longest=200) and not {"/", "\\"} & set(str(value)) and value not in (".", "..")


def _are_channels(value: object, wanted: int) -> bool:
    """Whether a keeper of so many channels finds them all: a number for one, a list of different ones for several."""
    if wanted == 1:
        return is_int(value, 0, MAX_CHANNEL)
    return is_whole_numbers(value, 0, MAX_CHANNEL) and isinstance(value, list) and len(value) == wanted


def _is_ratio(value: object, dim: int) -> bool:
    return is_list(value, lambda ratio: is_number(ratio, 1 / MAX_SPACING_RATIO, MAX_SPACING_RATIO), dim, dim)
