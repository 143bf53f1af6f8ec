"""Which high-field slice a low-field slice is held against, and how slice-gap perception learns it (PTA; section 2)."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

MATCHINGS = ("bank", "position", "hungarian")
"""Nearest of all training slices (ours); the same relative position; best assignment within a batch (PTA's code)."""
TOLERANCE = 0.05
"""Of relative positions, in lengths of the labelled extent: slices that far apart are half alike."""


def soft_targets(source: Tensor, target: Tensor, *, tolerance: float = TOLERANCE) -> Tensor:
    """How alike slices at relative positions ``(B,)`` and ``(B',)`` should be: rows ``(B, B')`` that sum to 1.

    exp(-(p - q)^2 / 2 tolerance^2), normalised (ours); as tolerance nears 0, the original's hard targets.
    """
    distance = (source[:, None] - target[None]) / tolerance
    return torch.softmax(-0.5 * distance.square(), dim=1)


def contrastive_loss(source: Tensor, target: Tensor, scale: Tensor, targets: Tensor) -> Tensor:
    """Symmetric InfoNCE of embeddings ``(B, E)`` of unit length against soft targets ``(B, B)``."""
    scores = scale * source.float() @ target.float().T
    backward = targets.T / targets.T.sum(dim=1, keepdim=True)
    return 0.5 * (F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, backward))


def assignment(source: Tensor, target: Tensor) -> Tensor:
    """The order ``(B,)`` of the targets whose summed similarity of embeddings ``(B, E)`` is largest (PTA's code)."""
    similarity = (source.detach().float() @ target.detach().float().T).cpu().numpy()
    _, columns = linear_sum_assignment(similarity, maximize=True)
    return torch.as_tensor(columns, device=source.device)


def nearest(queries: Tensor, bank: Tensor, *, forbidden: Tensor | None = None, rows: int = 4096) -> Tensor:
    """For every query ``(N, E)`` the place in a bank ``(M, E)`` of the most similar embedding, ``(N,)``.

    ``forbidden`` ``(N, M)``: pairs that must not be, of one subject; at least one has to be left for every query.
    """
    found = []
    for start in range(0, len(queries), rows):
        scores = queries[start : start + rows] @ bank.T
        if forbidden is not None:
            scores = scores.masked_fill(forbidden[start : start + rows], -torch.inf)
        found.append(scores.argmax(dim=1))
    return torch.cat(found)
