"""The fusion modules by the name in a guided block's `fusion` entry (ours).

``{"init", "gate"}`` is the reference; ``{"init", "gate", "kind": "light", "reduction"}`` the light one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnunet_uhf.networks.fusion import GATES, INITS, AdaptiveFusion
from nnunet_uhf.networks.light_fusion import LightFusion

Fusion = AdaptiveFusion | LightFusion

REFERENCE = "reference"
FUSIONS: dict[str, type[Fusion]] = {REFERENCE: AdaptiveFusion, "light": LightFusion}
MAX_REDUCTION = 64
#: What an entry of each kind has beside init, gate and kind, and the range of it.
_OPTIONS: dict[str, dict[str, Callable[[Any], bool]]] = {
    REFERENCE: {},
    "light": {"reduction": lambda value: type(value) is int and 1 <= value <= MAX_REDUCTION},
}


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


def build_fusion(entry: Mapping[str, Any], guide_channels: Sequence[int], channels: int, *, dim: int) -> Fusion:
    """The fusion of one stage with ``channels`` channels, as a guided block's `fusion` entry says."""
    options = {name: option for name, option in entry.items() if name != "kind"}
    return FUSIONS[entry.get("kind", REFERENCE)](guide_channels, channels, dim=dim, **options)
