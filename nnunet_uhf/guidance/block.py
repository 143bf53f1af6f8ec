"""The `uhf` block of a guided configuration: not trusted before :meth:`GuidedBlock.parse` has read it (ours).

The block lies in nnU-Net's plans (:mod:`nnunet_uhf.nnunet.plans_block`), so plans.json and checkpoints carry it to
inference. It is read once, and what it says is passed as :class:`GuidedBlock` from there on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from nnunet_uhf.checks import is_int, is_whole_numbers
from nnunet_uhf.errors import KeeperFileError, UHFError
from nnunet_uhf.guidance.matching import MAX_SPACING_RATIO
from nnunet_uhf.guidance.provenance import Provenance
from nnunet_uhf.keepers.header import KeeperHeader, check_architecture, parse_header
from nnunet_uhf.networks.guided.controls import CONTROLS, ENHANCED_INPUT, MAX_SEED, drawn_keeper, has_drawn_keeper
from nnunet_uhf.networks.guided.fusion_kinds import is_fusion_entry
from nnunet_uhf.networks.guided.spec import GuidanceSpec, KeeperSpec
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK, KINDS, why_no_guide
from nnunet_uhf.networks.presets import PRESETS, is_fusion_rate
from nnunet_uhf.nnunet.plans_block import FORMAT, block_in

ROLE = "guided"
MAX_CHANNEL = 999
_REMEDY = "write the plans again with `nnunet-uhf plan`, or take the plans.json of the original model folder"
_OF_DECODER = {"architecture", "sha256"}
_OF_KEEPER = {"network", "architecture", "sha256", "provenance", "seed", "decoder"}
_OF_BLOCK = {"format", "role", "preset", "keeper", "guide_channel", "spacing_ratio", "fusion"}
_OF_BLOCK |= {"control", "source_plans", "planned", "fusion_rate"}


@dataclass(frozen=True, kw_only=True)
class DecoderEntry:
    """What makes an image of a keeper's maps, in the enhanced input: its arguments and the hash of its weights."""

    architecture: Mapping[str, Any]
    sha256: str
    further: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the block."""
        return {"architecture": dict(self.architecture), "sha256": self.sha256, **self.further}


@dataclass(frozen=True, kw_only=True)
class KeeperEntry:
    """The keeper that a block names.

    Attributes:
        architecture: all arguments of its network.
        network: kind of its network, a name in :mod:`nnunet_uhf.networks.kinds`.
        sha256: hash of its weights; of a keeper that is trained along, of those it starts from.
        provenance: where it comes from.
        seed: of weights that are drawn; None for those of a keeper file.
        decoder: what makes an image of its maps, in the enhanced input.
        further: entries this version does not know.
    """

    architecture: Mapping[str, Any]
    network: str = DEFAULT_NETWORK
    sha256: str
    provenance: Provenance
    seed: int | None = None
    decoder: DecoderEntry | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> KeeperSpec:
        """What its network is built from."""
        decoder = None if self.decoder is None else self.decoder.architecture
        return KeeperSpec(architecture=self.architecture, network=self.network, decoder=decoder)

    def drawn(self) -> nn.Module:
        """The keeper with the random weights of its seed.

        Raises:
            ValueError: it has none.
        """
        if self.seed is None:
            raise ValueError("the weights of this keeper are not drawn")
        return drawn_keeper(self.spec, self.seed)

    def header(self, *, where: str) -> KeeperHeader:
        """The keeper's header, put together again, without the decoder.

        Raises:
            KeeperFileError: the provenance is not that of a keeper file.
        """
        content = {
            **self.provenance.content,
            "architecture": dict(self.architecture),
            "sha256": self.sha256,
            "decoder_architecture": None,
            "decoder_sha256": None,
        }
        return parse_header(json.dumps(content), where=where)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the block; the kind that the first versions had goes without saying."""
        return {
            **({} if self.network == DEFAULT_NETWORK else {"network": self.network}),
            "architecture": dict(self.architecture),
            "sha256": self.sha256,
            "provenance": dict(self.provenance.content),
            **({} if self.seed is None else {"seed": self.seed}),
            **({} if self.decoder is None else {"decoder": self.decoder.as_json()}),
            **self.further,
        }


@dataclass(frozen=True, kw_only=True)
class GuidedBlock:
    """What a guided configuration says of its guidance.

    Attributes:
        preset: name of the fusion modules' preset.
        keeper: what guides.
        guide_channels: the input channels the keeper sees, in its order.
        spacing_ratio: network spacing / keeper spacing per axis.
        fusion: arguments of the fusion modules.
        control: what is changed, a name in :data:`nnunet_uhf.networks.guided.controls.CONTROLS`; None for guidance as
            it is meant.
        source_plans: name of the plain plans that these were made from.
        planned: settings that were planned for plain nnU-Net and gave way to the guidance.
        fusion_rate: learning rate of the fusion modules at the start, 0 where they are trained as the backbone is; None
            in blocks that leave it open, as those of version 0.1.0 do.
        further: entries this version does not know.
    """

    preset: str
    keeper: KeeperEntry
    guide_channels: tuple[int, ...]
    spacing_ratio: Sequence[float]
    fusion: Mapping[str, Any]
    control: str | None = None
    source_plans: str | None = None
    planned: Mapping[str, Any] | None = None
    fusion_rate: float | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_drawn_keeper(self) -> bool:
        """Whether the keeper has random weights."""
        return has_drawn_keeper(self.control)

    @property
    def guide_channel(self) -> int | list[int]:
        """The guide channels as plans have them: one as a number, several as a list."""
        return self.guide_channels[0] if len(self.guide_channels) == 1 else list(self.guide_channels)

    @property
    def spec(self) -> GuidanceSpec:
        """What the guided network is built from."""
        return GuidanceSpec(
            keeper=self.keeper.spec,
            fusion=self.fusion,
            guide_channels=self.guide_channels,
            spacing_ratio=self.spacing_ratio,
            control=self.control,
        )

    def as_json(self) -> dict[str, Any]:
        """As it stands in plans: :meth:`parse` gives this block back."""
        added = {
            "control": self.control,
            "source_plans": self.source_plans,
            "planned": self.planned,
            "fusion_rate": self.fusion_rate,
        }
        return {
            "format": FORMAT,
            "role": ROLE,
            "preset": self.preset,
            "keeper": self.keeper.as_json(),
            "guide_channel": self.guide_channel,
            "spacing_ratio": list(self.spacing_ratio),
            "fusion": dict(self.fusion),
            **{name: value for name, value in added.items() if value is not None},
            **self.further,
        }

    @classmethod
    def parse(cls, block: Any, *, where: str | Path) -> GuidedBlock:
        """Make sure that a guided network can be built from the block, and that it is not absurdly large.

        Args:
            block: as it stands in plans.
            where: file or plans it comes from, for the message.

        Raises:
            UHFError: the entry that is missing or out of range.
        """
        _check(block, where)
        return cls(
            preset=block["preset"],
            keeper=_keeper(block["keeper"]),
            guide_channels=_channels(block["guide_channel"]),
            spacing_ratio=list(block["spacing_ratio"]),
            fusion=block["fusion"],
            control=block.get("control"),
            source_plans=block.get("source_plans"),
            planned=block.get("planned"),
            fusion_rate=block.get("fusion_rate"),
            further=_without(block, _OF_BLOCK),
        )

    @classmethod
    def of(cls, plans: Mapping[str, Any], configuration: str, *, where: str | Path | None = None) -> GuidedBlock | None:
        """The block of a configuration of plans, an inherited one included; None when it has none.

        Raises:
            UHFError: the block is not one that a guided segmentation can be built from.
        """
        block = block_in(plans, configuration)
        place = f"plans {plans['plans_name']}, {configuration}" if where is None else where
        return None if block is None else cls.parse(block, where=place)


def _channels(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _are_channels(value: object, wanted: int) -> bool:
    """Whether a keeper of so many channels finds them all: a number for one, a list of different ones for several."""
    if wanted == 1:
        return is_int(value, 0, MAX_CHANNEL)
    return is_whole_numbers(value, 0, MAX_CHANNEL) and len(_channels(value)) == wanted


def _without(entry: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in known}


def _keeper(entry: Mapping[str, Any]) -> KeeperEntry:
    decoder = entry.get("decoder")
    if isinstance(decoder, Mapping) and isinstance(decoder.get("architecture"), Mapping):
        made = DecoderEntry(
            architecture=decoder["architecture"], sha256=decoder["sha256"], further=_without(decoder, _OF_DECODER)
        )
    else:
        made = None
    return KeeperEntry(
        architecture=entry["architecture"],
        network=entry.get("network", DEFAULT_NETWORK),
        sha256=entry["sha256"],
        provenance=Provenance(entry["provenance"]),
        seed=entry.get("seed"),
        decoder=made,
        further=_without(entry, _OF_KEEPER),
    )


def _check(block: Any, where: str | Path) -> None:
    """UHFError unless the block says all that a network is built from, within bounds."""
    role = block.get("role") if isinstance(block, Mapping) else None
    if role != ROLE:
        raise UHFError(
            f"{where}: a uhf block of role {role!r}; a guided training needs plans written by "
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
        "guide_channel": _are_channels(block.get("guide_channel"), KINDS[network].in_channels(architecture)),
        "spacing_ratio": _is_ratio(block.get("spacing_ratio"), dim),
        "preset": block.get("preset") in list(PRESETS),
        "fusion": is_fusion_entry(block.get("fusion")),
        "source_plans": isinstance(block.get("source_plans"), str | None),
        "planned": isinstance(block.get("planned"), Mapping | None),
        "fusion_rate": block.get("fusion_rate") is None or is_fusion_rate(block["fusion_rate"]),
    }
    wrong = [name for name, fits in entries.items() if not fits]
    if wrong:
        raise UHFError(f"{where}: the uhf block has no valid {', '.join(wrong)}; {_REMEDY}")
    _check_control(block.get("control"), keeper, dim=dim, where=where)


def _check_control(control: Any, keeper: Mapping[str, Any], *, dim: int, where: str | Path) -> None:
    """UHFError for an unknown control, or one that lacks what its network is built from."""
    if control is not None and (not isinstance(control, str) or control not in CONTROLS):
        raise UHFError(f"{where}: the uhf block has the unknown control {control!r:.80}; {_REMEDY}")
    seed = keeper.get("seed")
    if has_drawn_keeper(control) and (type(seed) is not int or not 0 <= seed <= MAX_SEED):
        raise UHFError(f"{where}: the uhf block has no valid keeper.seed; {_REMEDY}")
    if control != ENHANCED_INPUT:
        return
    entry = keeper.get("decoder")
    decoder: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
    architecture = decoder.get("architecture")
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
