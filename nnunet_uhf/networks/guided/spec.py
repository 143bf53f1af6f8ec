"""What a guided network is built from (ours): plain values, checked by whoever reads them from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_uhf.networks.kinds import DEFAULT_NETWORK


@dataclass(frozen=True, kw_only=True)
class KeeperSpec:
    """A keeper's network.

    Attributes:
        architecture: all arguments of the keeper, as its ``config()`` gives them.
        network: its kind, a name in :mod:`nnunet_uhf.networks.kinds`.
        decoder: all arguments of what makes an image of its maps, where that is needed.
    """

    architecture: Mapping[str, Any]
    network: str = DEFAULT_NETWORK
    decoder: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class GuidanceSpec:
    """Everything a guided network has beside its backbone.

    Attributes:
        keeper: what gives the guides.
        fusion: the modules that take them, see :mod:`nnunet_uhf.networks.guided.fusion_kinds`.
        guide_channels: the input channels the keeper sees, in its order; one, mostly.
        spacing_ratio: network spacing / keeper spacing per axis; None where they are equal.
        control: a name in :data:`nnunet_uhf.networks.guided.controls.CONTROLS`; None for guidance as it is meant.
    """

    keeper: KeeperSpec
    fusion: Mapping[str, Any]
    guide_channels: Sequence[int] = (0,)
    spacing_ratio: Sequence[float] | None = None
    control: str | None = None
