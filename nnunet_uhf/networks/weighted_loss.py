"""Cross entropy with a weight for every voxel: rare labels and borders count more.

FastSurfer's, which the paper takes for MALC (arXiv 2402.08409): median frequency balancing, at most 5, and 5 more where
the label changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_WEIGHT = 5.0
EDGE_WEIGHT = 5.0


def median_frequency_weights(counts: Sequence[float], *, largest: float = MAX_WEIGHT) -> list[float]:
    """The median of the counts divided by each, at most ``largest``; of labels that never occur ``largest``.

    Args:
        counts: voxels of every label, the background's first.
        largest: upper bound of a weight.

    Raises:
        ValueError: no voxel at all.
    """
    if not any(count > 0 for count in counts):
        raise ValueError("there is no labelled voxel to count")
    # of the labels that occur: where most are absent, as in small images, the median of all would be 0
    median = float(np.median([count for count in counts if count > 0]))
    return [min(median / count, largest) if count > 0 else largest for count in counts]


def on_edge(labels: Tensor) -> Tensor:
    """Whether a voxel of ``(B, *S)`` has a neighbour along an axis with another label; bool of that shape."""
    edge = torch.zeros_like(labels, dtype=torch.bool)
    for axis in range(1, labels.ndim):
        length = labels.shape[axis]
        differs = labels.narrow(axis, 1, length - 1) != labels.narrow(axis, 0, length - 1)
        edge.narrow(axis, 1, length - 1).logical_or_(differs)
        edge.narrow(axis, 0, length - 1).logical_or_(differs)
    return edge


class WeightedCrossEntropy(nn.Module):
    """Mean over voxels of weight times cross entropy.

    Args:
        weights: of every label, the background's first.
        edge_weight: added where the label changes.
        ignore: label of voxels that count for nothing, or None.

    Examples:
        >>> import torch
        >>> from nnunet_uhf.networks.weighted_loss import WeightedCrossEntropy
        >>> loss = WeightedCrossEntropy([1.0, 2.0], edge_weight=0.0)
        >>> logits = torch.zeros(1, 2, 4)  # both labels equally likely: log 2 each
        >>> round(float(loss(logits, torch.tensor([[0, 0, 1, 1]]))), 3)
        1.04
    """

    weights: Tensor

    def __init__(
        self, weights: Sequence[float], *, edge_weight: float = EDGE_WEIGHT, ignore: int | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(list(weights), dtype=torch.float32), persistent=False)
        self.edge_weight, self.ignore = edge_weight, ignore

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits ``(B, C, *S)`` and labels ``(B, *S)`` or ``(B, 1, *S)``; 0 where nothing is annotated."""
        labels = (labels[:, 0] if labels.ndim == logits.ndim else labels).long()
        counts = torch.ones_like(labels, dtype=torch.bool) if self.ignore is None else labels != self.ignore
        known = labels.masked_fill(~counts, 0)
        weights = self.weights.to(logits.device)[known] + self.edge_weight * on_edge(labels)
        each = F.cross_entropy(logits.float(), known, reduction="none") * weights * counts
        return each.sum() / counts.sum().clamp(min=1)
