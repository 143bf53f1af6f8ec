"""What nnU-Net's dataset.json says of channels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import MatchError


def channel_names(dataset_json: Mapping[str, Any], *, where: Path | str = "dataset.json") -> list[str]:
    """Return a dataset's channel names by channel index.

    ``dataset.json`` maps index to name in any order; the index, not the order in the file, is what image files
    (``_0000``, ``_0001``) and normalisation schemes are counted by.

    Args:
        dataset_json: its content.
        where: the file, for messages.

    Raises:
        MatchError: no channel names, or indices that are not 0, 1, 2, ...
    """
    names = dataset_json.get("channel_names", dataset_json.get("modality"))
    try:
        by_index = {int(index): str(name) for index, name in names.items()}
    except (AttributeError, ValueError):
        raise MatchError(f"{where} has no usable 'channel_names' (index -> name). Correct it.") from None
    if not by_index or sorted(by_index) != list(range(len(by_index))):
        raise MatchError(
            f"{where} counts its channels {sorted(by_index)}, not from 0 without gaps. Correct 'channel_names'."
        )
    return [by_index[index] for index in range(len(by_index))]
