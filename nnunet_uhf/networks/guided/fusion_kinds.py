"""The fusion modules by the name in a guided block's `fusion` entry (ours).

``{"init", "gate"}`` is the reference; ``{"init", "gate", "kind": "light", "reduction"}`` the light one, and
``{"init", "kind": "pointwise", "reduction"}`` the one of matrix products. A reduction is a number or a list of them: of
the finest stage, of the next one, .., the last for all coarser ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunet_uhf.networks.blocks import Strides
from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.networks.guided.fusion import GATES, INITS, AdaptiveFusion
from nnunet_uhf.networks.guided.light_fusion import LightFusion
from nnunet_uhf.networks.guided.pointwise_fusion import PointwiseFusion

Fusion = AdaptiveFusion | LightFusion | PointwiseFusion

REFERENCE = "reference"
MAX_REDUCTION = 64


def _is_reduction(value: object) -> bool:
    values = value if type(value) is list else [value]
    return len(values) > 0 and all(type(one) is int and 1 <= one <= MAX_REDUCTION for one in values)


@dataclass(frozen=True, kw_only=True)
class FusionKind:
    """A class of fusion modules.

    Attributes:
        build: one module.
        options: entries beside `init` and `kind`, each with its range; all of them are there.
        hears_resolution: it is told the guides' strides and the stage, since it does not listen to all guides.
    """

    build: Callable[..., Fusion]
    options: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    hears_resolution: bool = False


def _is_gate(value: object) -> bool:
    return value in list(GATES)  # of any type, hashable or not


FUSIONS = {
    REFERENCE: FusionKind(build=AdaptiveFusion, options={"gate": _is_gate}),
    "light": FusionKind(build=LightFusion, options={"gate": _is_gate, "reduction": _is_reduction}),
    "pointwise": FusionKind(build=PointwiseFusion, options={"reduction": _is_reduction}, hears_resolution=True),
}


def is_fusion_entry(value: object) -> bool:
    """Whether a fusion can be built from this entry of a block that came from elsewhere."""
    if not isinstance(value, Mapping) or value.get("init") not in list(INITS):
        return False
    kind = value.get("kind", REFERENCE)
    if kind not in list(FUSIONS):  # of any type, hashable or not
        return False
    options = {name: option for name, option in value.items() if name not in ("init", "kind")}
    ranges = FUSIONS[kind].options
    return options.keys() == ranges.keys() and all(ranges[name](option) for name, option in options.items())


def build_fusion(
    entry: Mapping[str, Any],
    guide_channels: Sequence[int],
    channels: int,
    *,
    dim: int,
    stage: int,
    strides: Strides | None = None,
) -> Fusion:
    """The fusion of a stage (0 is the finest) with ``channels`` channels, as a guided block's `fusion` entry says.

    Args:
        entry: of the block.
        guide_channels: channels of the guides, finest first.
        channels: of the skip.
        dim: 2 or 3.
        stage: of the skip.
        strides: of the guides, relative to the image; None where the finest has full resolution.
    """
    kind = FUSIONS[entry.get("kind", REFERENCE)]
    options = {name: option for name, option in entry.items() if name != "kind"}
    if isinstance(reductions := options.get("reduction"), list):
        options["reduction"] = reductions[min(stage, len(reductions) - 1)]
    if kind.hears_resolution:
        options |= {"strides": strides, "stage": stage}
    return kind.build(guide_channels, channels, dim=dim, **options)


def build_fusions(entry: Mapping[str, Any], keeper: Keeper, channels: Sequence[int]) -> list[Fusion]:
    """The fusions of all stages of a network, of the ``channels`` of its skips, finest first, for a keeper's guides."""
    return [
        build_fusion(entry, keeper.channels, count, dim=keeper.dim, stage=stage, strides=keeper.strides)
        for stage, count in enumerate(channels)
    ]
