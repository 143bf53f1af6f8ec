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

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.entries import REMEDY, ROLE, check_block
from nnunet_uhf.guidance.matching import spacing_ratio
from nnunet_uhf.guidance.provenance import Provenance
from nnunet_uhf.keepers.header import KeeperHeader, parse_header
from nnunet_uhf.networks.guided.controls import drawn_keeper, has_drawn_keeper
from nnunet_uhf.networks.guided.spec import GuidanceSpec, KeeperSpec
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK
from nnunet_uhf.nnunet.files import configuration_settings
from nnunet_uhf.nnunet.plans_block import FORMAT, block_of

RATIO_TOLERANCE = 1e-6
"""Between a ratio in JSON and one that is reckoned anew."""
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
        check_block(block, where)
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
        """The block of a configuration of plans, an inherited one included, held against it; None when it has none.

        Raises:
            UHFError: the block is not one that a guided segmentation can be built from.
        """
        place = f"plans {plans['plans_name']}, {configuration}" if where is None else where
        settings = configuration_settings(plans, configuration)
        found = block_of(settings)
        if found is None:
            return None
        block = cls.parse(found, where=place)
        block.require_fit(settings, where=place)
        return block

    def require_fit(self, settings: Mapping[str, Any], *, where: str | Path) -> None:
        """Hold the block against the configuration in which it stands.

        Args:
            settings: the configuration's entries in the plans, inheritance resolved.
            where: file or plans they come from, for the message.

        Raises:
            UHFError: another dimension, a guide channel that is not there, or another spacing ratio than the spacings
                give: the keeper would see other voxels than it knows.
        """
        dim, channels = len(settings["patch_size"]), len(settings["normalization_schemes"])
        if self.keeper.architecture["dim"] != dim:
            raise UHFError(f"{where}: the keeper of the uhf block is of another dimension than the plans; {REMEDY}")
        if max(self.guide_channels) >= channels:
            raise UHFError(
                f"{where}: the uhf block names channel {max(self.guide_channels)}, the plans have {channels}; {REMEDY}"
            )
        learnt = self.keeper.provenance.spacing_mm
        if learnt is None:
            return
        wanted = spacing_ratio(settings["spacing"], learnt, configuration=str(where))
        if any(abs(a - b) > RATIO_TOLERANCE * b for a, b in zip(self.spacing_ratio, wanted, strict=True)):
            raise UHFError(
                f"{where}: the uhf block has the spacing ratio {list(self.spacing_ratio)}, the spacings of keeper and "
                f"plans give {wanted}; {REMEDY}"
            )


def _channels(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _without(entry: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in known}


def _keeper(entry: Mapping[str, Any]) -> KeeperEntry:
    decoder = entry.get("decoder")
    made = None
    if decoder is not None:
        made = DecoderEntry(
            architecture=decoder["architecture"], sha256=decoder["sha256"], further=_without(decoder, _OF_DECODER)
        )
    return KeeperEntry(
        architecture=entry["architecture"],
        network=entry.get("network", DEFAULT_NETWORK),
        sha256=entry["sha256"],
        provenance=Provenance(entry["provenance"]),
        seed=entry.get("seed"),
        decoder=made,
        further=_without(entry, _OF_KEEPER),
    )
