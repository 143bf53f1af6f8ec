"""What an image that a network made says of itself, in the JSON note beside it."""

from __future__ import annotations

from typing import Any

from nnunet_uhf.inference.enhancer import Enhancer
from nnunet_uhf.inference.inputs import Scan
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.keepers.origin import taught_on
from nnunet_uhf.keepers.trained_teacher import TEACHER


def origin_of_image(header: KeeperHeader, scan: Scan, enhancer: Enhancer) -> dict[str, Any]:
    """The first entries of every note: what an image is, and of which scan and by which model it was made."""
    return {
        "description": describe_image(header),
        "input": scan[0].name if len(scan) == 1 else [path.name for path in scan],
        "model": enhancer.name,
        "keepers": [
            {
                "fold": one.fold,
                "sha256": one.sha256,
                "decoder_sha256": one.decoder_sha256,
                "held_out_metrics": one.metrics,
            }
            for one in enhancer.headers
        ],
        "trained_on": header.dataset,
        "route": header.route,
    }


def describe_image(header: KeeperHeader) -> str:
    """One sentence that no reader of the image may miss: inferred, from what, by whom taught, not for diagnosis."""
    high = "unknown field strength" if header.target_field_T is None else f"{header.target_field_T:g} T"
    said = str(header.metrics.get("note", ""))
    if said.startswith(TEACHER):
        return (
            f"Image that shows what the teacher keeps of an image at {high}: reconstructed by a neural network from "
            "its feature maps, the most that a keeper which learns from it can reach. For research only, not for "
            "diagnosis."
        )
    return (
        f"Image inferred by a neural network trained on {taught_on(header)}. It is not a measurement at {high}: "
        "structures may be missing or invented. For research only, not for diagnosis."
    )
