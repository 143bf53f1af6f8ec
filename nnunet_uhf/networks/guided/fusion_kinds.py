"""The fusion modules by the name in a guided block's `fusion` entry (ours).

``{"init", "gate"}`` is the reference; ``{"init", "gate", "kind": "light", "reduction"}`` the light one. Its reduction
is a number or a list of them: of the finest stage, of the next one, .., the last for all coarser ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnunet_uhf.networks.guided.fusion import GATES, INITS, AdaptiveFusion
from nnunet_uhf.networks.guided.light_fusion import LightFusion

Fusion = AdaptiveFusion | LightFusion

REFERENCE = "reference"
FUSIONS: dict[str, type[Fusion]] = {REFERENCE: AdaptiveFusion, "light": LightFusion}
MAX_REDUCTION = 64
#: What an entry of each kind has beside init, gate and kind, and the range of it.
_OPTIONS: dict[str, dict[str, Callable[[Any], bool]]] = {
    REFERENCE: {},
    "light": {"reduction": lambda value: _are_reductions(value if type(value) is list else [value])},
}


def _are_reductions(values: Sequence[object]) -> bool:
    return len(values) > 0 and all(type(value) is int and 1 <= value <= MAX_REDUCTION for value in values)


def is_fusion_entry(value: object) -> bool:
    """Whether a fusion can be built from this entry of a block that came from elsewhere."""
    if not isinstance(value, Mapping) or value.get("init") not in INITS or value.get("gate") not in GATES:
        return False
    kind = value.get("kind", REFERENCE)
    if kind not in list(FUSIONS):  # of any type, hashable or not
        return False
    options = {name: option for name, option in value.items() if name not in ("init", "gate", "kind")}
    ranges = _OPTIONS[kind]
    return options.keys() == ranges.keys() and all(ranges[name](option) for name, option in options.items())


def build_fusion(
    entry: Mapping[str, Any], guide_channels: Sequence[int], channels: int, *, dim: int, stage: int
) -> Fusion:
    """The fusion of a stage (0 is the finest) with ``channels`` channels, as a guided block's `fusion` entry says."""
    options = {name: option for name, option in entry.items() if name != "kind"}
    if isinstance(reductions := options.get("reduction"), list):
        options["reduction"] = reductions[min(stage, len(reductions) - 1)]
    return FUSIONS[entry.get("kind", REFERENCE)](guide_channels, channels, dim=dim, **options)
