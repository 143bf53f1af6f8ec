"""How the two images of a pair come about: what a trainer of images asks, and a new way has to answer (ours).

A way is a subclass of :class:`PairSource` in a file of its own, and a line in :mod:`.sources`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from numpy.typing import NDArray
from torch import Tensor

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.trainers.image_to_image.transforms import OnChannels, intensity_on
from nnunet_uhf.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A batch of pairs on the trainer's device.

    Attributes:
        source: what the network sees, `(B, C, *S)`; thick slices are fewer than the target's voxels.
        target: what it should make of it, `(B, 1, *S)`, or an image of the target's domain where there is no partner.
        conditions: what else a network is told of each pair, by name.
        labels: nnU-Net's of the target, `(B, 1, *S)`, or of regions `(B, R, *S)`; None where nobody asked for them.
    """

    source: Tensor
    target: Tensor
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None


class PairSource(ABC):
    """One way in which pairs come about. What most ways have in common is answered here; channels are those of batches.

    Its copies go to nnU-Net's worker processes, inside of the transforms that belong to it.

    Attributes:
        source_channels: of a batch, in the order in which the network sees them.
        target_channel: of a batch.
        record: all parameters of a simulated source, ready for JSON: they travel in plans, checkpoints and keeper
            files; None for scans.
    """

    source_channels: tuple[int, ...]
    target_channel: int
    record: dict[str, Any] | None = None

    # ---- before a training

    def fitted(self, patch_size: Sequence[int]) -> list[int]:
        """The patch size `(*S)` that pairs can have, at most as large as the planned one."""
        return [int(size) for size in patch_size]

    def stretch(self, dim: int) -> tuple[int, ...]:
        """Voxels of the target per voxel of the source, for each of the last `dim` axes."""
        return (1,) * dim

    def log_lines(self) -> list[str]:
        """What the log says of the pairs when a training starts."""
        return []

    def check_continues(self, before: TrainingBlock, *, checkpoint: str, dataset: str) -> None:
        """UHFError when a checkpoint learnt from other pairs: the keeper file could name only one kind of them."""
        if before.simulation != self.record:
            raise UHFError(
                f"{checkpoint}: trained with another uhf.simulate than dataset.json of {dataset} has now; restore that "
                "entry, or train anew without --c"
            )

    # ---- cases

    def split(self, training: list[str], validation: list[str]) -> tuple[list[str], list[str]]:
        """The cases of a fold, of nnU-Net's."""
        return training, validation

    def datasets(self, training: Any, validation: Any) -> tuple[Any, Any]:
        """nnU-Net's datasets of the fold, or what its data loaders shall draw from in their place.

        Whatever it is has `identifiers`, and a `load_case` that returns the channels which the transforms expect.
        """
        return training, validation

    measured: str = ""
    """What :meth:`measure` finds out of every case before training, for the log; empty when it is nothing."""

    def measure(self, case: str, data: Any, labels: Any) -> None:  # noqa: B027 - most ways need to know nothing
        """Measure a whole preprocessed case; UHFError when no pair can come from it."""

    # ---- batches

    def masks(self, use_mask_for_norm: list[bool]) -> list[bool]:
        """For each channel of a batch, whether its outside is 0; from nnU-Net's, for each channel of the dataset."""
        return use_mask_for_norm

    def augmentation(self, transform: BasicTransform, *, augments_simulated: bool) -> BasicTransform:
        """nnU-Net's augmentation, its intensity part on the source alone: the target is the truth.

        `augments_simulated`: whether that part is for simulated sources, too, whose contrast and noise are drawn.
        """
        return intensity_on(transform, self.on_source)

    def on_source(self, transform: BasicTransform) -> BasicTransform:
        """An intensity transform for the source channels alone."""
        return OnChannels(transform, self.source_channels)

    def unaugmented(self, transform: BasicTransform) -> BasicTransform:
        """nnU-Net's transforms of validation patches: a pair is the same in every epoch."""
        return transform

    def of_batch(self, batch: Mapping[str, Any], device: torch.device) -> Pair:
        """The pairs of a batch of nnU-Net's data loaders."""
        data = batch["data"].to(device, non_blocking=True)
        return Pair(source=data[:, list(self.source_channels)], target=data[:, [self.target_channel]])

    # ---- whole volumes

    @abstractmethod
    def of_case(self, case: str, data: Any, labels: Any) -> tuple[FloatArray, FloatArray]:
        """Source `(C, Z, Y, X)` and target `(Z, Y, X)` of a whole preprocessed case, in every training the same.

        `data` and `labels` are nnU-Net's, `(channels of the dataset, Z, Y, X)` and `(1, Z, Y, X)`.
        """

    def before_enhancing(self, case: str, data: Any, labels: Any) -> FloatArray:
        """The source on the target's grid `(Z, Y, X)`, in any intensities: what an enhanced image is held against."""
        source, _ = self.of_case(case, data, labels)
        return source[0]


def image_and_labels(channel: int, data: Any, labels: Any) -> tuple[FloatArray, NDArray[np.int16]]:
    """One channel and the labels of a whole preprocessed case, each `(Z, Y, X)`."""
    return np.asarray(data[channel], dtype=np.float32), np.asarray(labels[0], dtype=np.int16)
