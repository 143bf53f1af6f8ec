"""What a network learnt from, in words that no reader of its images may miss."""

from __future__ import annotations

from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.keepers.trained import SAME_FIELD
from nnunet_uhf.routes.table import ROUTES

MADE_FROM = "made_from"
"""Entry of a header's `simulation` that says what both images of its pairs were made from, where neither is a scan."""
LABEL_MAPS = "label maps"


def made_from_label_maps(header: KeeperHeader) -> bool:
    """Whether no image of its training was a scan."""
    return (header.simulation or {}).get(MADE_FROM) == LABEL_MAPS


def taught_on(header: KeeperHeader) -> str:
    """The end of "a neural network trained on ..": route and field strengths."""
    low, high = (
        "unknown field strength" if field is None else f"{field:g} T"
        for field in (header.source_field_T, header.target_field_T)
    )
    if made_from_label_maps(header):
        return f"images simulated from label maps alone, the target with parameters of {high}: it has seen no scan"
    route = ROUTES[header.route]
    if str(header.metrics.get("note", "")).startswith(SAME_FIELD):
        return f"{route.low_field} ({low}) alone, as a control: it has seen no higher field"
    return route.taught(low, high)
