"""Questions on their way through nnU-Net's batches, whose only arrays are images (ours).

A question is written into a channel of its own behind all other transforms, and read from the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from torch import Tensor

from nnunet_uhf.networks.unicoal.modalities import Modalities
from nnunet_uhf.networks.unicoal.question import Question
from nnunet_uhf.trainers.unicoal.reading import AskedDataset


class WriteQuestion(BasicTransform):
    """Append a channel to the image `(C, H, W)` that holds the question of its patch, row after row, and zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.dataset: AskedDataset | None = None

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Ask the dataset that the patch was cut of."""
        if self.dataset is None:
            raise RuntimeError("WriteQuestion was not told which dataset its patches come from")
        image, asked = data_dict["image"], self.dataset.asked
        channel = torch.zeros(image[0].numel())
        if len(asked) > len(channel):
            raise ValueError(f"a patch of {len(channel)} pixels holds no question of {len(asked)} numbers")
        channel[: len(asked)] = asked
        return {**data_dict, "image": torch.cat([image, channel.view(1, *image.shape[1:])])}


def with_question(transform: BasicTransform, write: WriteQuestion) -> BasicTransform:
    """The augmentation, and behind it the question."""
    parts = list(transform.transforms) if isinstance(transform, ComposeTransforms) else [transform]
    return ComposeTransforms([*parts, write])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A batch of questions with their answers, values from -1 to 1.

    Attributes:
        source: slices, `(B, in_channels, H, W)`.
        target: the slice that was asked for, and with a neighbour the one beside it: `(B, 1 or 2, H, W)`.
        question: what was asked.
        neighbour: the same for the slice beside it; None without consistency.
    """

    source: Tensor
    target: Tensor
    question: Question
    neighbour: Question | None


def read_batch(data: Tensor, modalities: Modalities, noise: Tensor, *, neighbours: bool) -> Sample:
    """A batch of nnU-Net's loaders `(B, C, H, W)` -> questions with answers; ``noise``: z, `(B, length)`."""
    count = modalities.in_channels
    row = data[:, -1].flatten(1)
    place, row = row[:, :2], row[:, 2:]
    questions = []
    length = modalities.code + modalities.numbers
    for _ in range(2 if neighbours else 1):
        condition, weights = row[:, :length], row[:, length : length + count]
        questions.append(Question(condition=condition, noise=noise, place=place, weights=weights))
        row = row[:, length + count :]
    return Sample(
        source=data[:, :count] - 1,
        target=data[:, count:-1] - 1,
        question=questions[0],
        neighbour=questions[1] if neighbours else None,
    )
