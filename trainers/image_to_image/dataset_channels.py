"""Pairs of scans, both stored as channels of the dataset (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_uhf.trainers.image_to_image.pair_source import PairSource
from nnunet_uhf.types import FloatArray


class DatasetChannels(PairSource):
    """Source and target are channels of the dataset, registered and on one grid."""

    def __init__(self, source_channels: Sequence[int], target_channel: int) -> None:
        self.source_channels = tuple(source_channels)
        self.target_channel = target_channel

    def of_case(self, case: str, data: Any, labels: Any) -> tuple[FloatArray, FloatArray]:
        """The channels of the case."""
        source = np.stack([np.asarray(data[channel], dtype=np.float32) for channel in self.source_channels])
        return source, np.asarray(data[self.target_channel], dtype=np.float32)
