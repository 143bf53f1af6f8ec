"""What any `uhf` block says of its guidance, for reports: nothing is built from it, so nothing is refused (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_uhf.guidance.provenance import Provenance
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK
from nnunet_uhf.networks.presets import present_name

NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class StatedKeeper:
    """The keeper of a block, in words: kind of its network, hash of its weights, and where it comes from."""

    network: str
    sha256: str
    origin: Provenance


@dataclass(frozen=True, kw_only=True)
class StatedGuidance:
    """A block as it lies in the plans of a model or of predictions, of whatever version or damage.

    Attributes:
        keeper: None where the block names none, like that of a teacher's training.
        preset: in words.
        control: its name; None for guidance as it is meant.
        guide_channel: the input channel the keeper sees, of several the first; None where it is not stated.
    """

    keeper: StatedKeeper | None
    preset: str
    control: str | None
    guide_channel: int | None

    @classmethod
    def read(cls, block: Any) -> StatedGuidance | None:
        """What a block says; None of what is no block."""
        if not isinstance(block, Mapping):
            return None
        channel, control, fusion = block.get("guide_channel"), block.get("control"), block.get("fusion")
        if isinstance(channel, list) and channel:
            channel = channel[0]
        return cls(
            keeper=_keeper(block.get("keeper")),
            preset=present_name(str(block.get("preset", NOT_STATED)), fusion if isinstance(fusion, Mapping) else {}),
            control=None if control is None else str(control),
            guide_channel=channel if type(channel) is int else None,
        )


def _keeper(entry: Any) -> StatedKeeper | None:
    if not isinstance(entry, Mapping):
        return None
    origin = entry.get("provenance")
    return StatedKeeper(
        network=str(entry.get("network", DEFAULT_NETWORK)),
        sha256=str(entry.get("sha256", NOT_STATED)),
        origin=Provenance(origin if isinstance(origin, Mapping) else {}),
    )
