"""The page for people of an evaluation without truth (ours)."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.image import imsave

from nnunet_uhf.evaluation.image_sets import CaseSlices
from nnunet_uhf.pages.engine import render_page
from nnunet_uhf.types import FloatArray

SHOWN = 3
"""Cases whose slices are drawn."""


def unpaired_page(record: Mapping[str, Any], slices: Mapping[str, Mapping[str, CaseSlices]], *, made: str) -> str:
    """The HTML text.

    Args:
        record: what `unpaired_metrics.json` holds.
        slices: of every set, by case; made images and their inputs have the same cases.
        made: the set that is judged.
    """
    sets, rows = record["sets"], record["metric_per_case"][made]
    pictures = []
    for case in list(slices[made])[:SHOWN]:
        pictures += [
            (f"{case}, {name}", _picture(parts[case].slices)) for name, parts in slices.items() if case in parts
        ]
    others = [name for name in slices if not set(slices[name]) & set(slices[made])]
    pictures += [(f"{name.replace('_', ' ')}", _picture(next(iter(slices[name].values())).slices)) for name in others]
    return render_page(
        __package__,
        "unpaired.html",
        filters={"number": lambda value: f"{value:.4g}"},
        sets=sets,
        keys=_keys(sets.values()),
        rows=rows,
        case_keys=[key for key in _keys(rows) if key != "case"],
        pictures=pictures,
        definitions=record["definitions"],
        settings={name: value for name, value in record["settings"].items() if name != "not_measured"},
        version=record["package_version"],
    )


def _keys(rows: Any) -> Sequence[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _picture(slices: FloatArray) -> str:
    """The middle slice `(H, W)` of a case, the patient's right, or front, at the left."""
    drawn = io.BytesIO()
    imsave(drawn, slices[len(slices) // 2].T[::-1, ::-1], cmap="gray", vmin=0, vmax=1, format="png")
    return "data:image/png;base64," + base64.b64encode(drawn.getvalue()).decode("ascii")
