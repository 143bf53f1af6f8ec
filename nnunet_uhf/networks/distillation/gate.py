"""Position-aware gate of the knowledge keeper (arXiv 2402.08409, after the position recalibration module)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SOFTPLUS_OF_ONE = math.log(math.e - 1)
"""softplus(x) = 1: the standard deviation of the position prior starts at one voxel."""


def unravel(index: Tensor, size: tuple[int, ...]) -> Tensor:
    """Coordinates ``(B, len(size))`` of flat indices ``(B,)`` into a grid, as ``numpy.unravel_index`` orders them."""
    coordinates = []
    for extent in reversed(size):
        coordinates.append(index % extent)
        index = torch.div(index, extent, rounding_mode="floor")
    return torch.stack(coordinates[::-1], dim=1)


class PositionAwareGate(nn.Module):
    """Scale every voxel by how much it resembles the strongest and the mean feature of the map.

    With q the feature at the voxel of the largest channel sum: ``S = a <q, x_p> D_p + b <mean(x), x_p>``,
    standardised over the voxels; the output is ``x * sigmoid(w S + beta)``. ``D_p`` is a normal density of the
    distance to q, averaged over the axes. At the start a = 0, b = 1, w = 0, beta = 1: a constant gate of 0.731.

    Args:
        dim: 2 or 3.
        position_branch: keep the term with q and D (the paper's; it barely trains: spec), or drop it.
    """

    def __init__(self, *, dim: int, position_branch: bool = True) -> None:
        super().__init__()
        self.position_branch = position_branch
        self.mean_weight = nn.Parameter(torch.ones(()))
        self.slope = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.ones(()))
        if position_branch:
            self.peak_weight = nn.Parameter(torch.zeros(()))
            self.theta = nn.Parameter(torch.rand(dim))
            self.raw_scale = nn.Parameter(torch.tensor(SOFTPLUS_OF_ONE))

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``(B, C, *S)``; same shape."""
        size = tuple(x.shape[2:])
        flat = x.flatten(2)
        similarity = self.mean_weight * self._inner(flat.mean(dim=2), flat)
        if self.position_branch:
            peak = self.peak_index(x)
            strongest = flat.gather(2, peak[:, None, None].expand(-1, flat.shape[1], 1)).squeeze(2)
            prior = self._position_prior(unravel(peak, size), size)
            similarity = similarity + self.peak_weight * self._inner(strongest, flat) * prior
        centred = similarity - similarity.mean(dim=1, keepdim=True)
        standardised = centred / (centred.std(dim=1, keepdim=True) + 1e-5)
        gate = torch.sigmoid(self.slope * standardised + self.offset)
        return x * gate.reshape(-1, 1, *size).to(x.dtype)

    @staticmethod
    def peak_index(x: Tensor) -> Tensor:
        """Flat index ``(B,)`` of the voxel with the largest channel sum of ``(B, C, *S)``."""
        return x.sum(dim=1).flatten(1).argmax(dim=1)

    @staticmethod
    def _inner(query: Tensor, flat: Tensor) -> Tensor:
        """Inner product of one feature ``(B, C)`` with every voxel of ``(B, C, N)``: ``(B, N)``, at least float32."""
        # divided first, multiplied last: the sum over hundreds of channels can exceed the range of float16
        product = torch.einsum("bc,bcn->bn", query / query.shape[1], flat)
        if product.dtype != torch.float64:
            largest = torch.finfo(product.dtype).max  # one infinite voxel would make the standardised map NaN
            product = product.float().clamp(-largest, largest)
        return product * query.shape[1]

    def _position_prior(self, peak: Tensor, size: tuple[int, ...]) -> Tensor:
        """Mean over the axes of N(0, scale).pdf(|p - p_q| theta), distances in voxels: ``(B, N)``."""
        scale = F.softplus(self.raw_scale)
        total = torch.zeros((), device=peak.device, dtype=self.theta.dtype)
        for axis, extent in enumerate(size):
            position = torch.arange(extent, device=peak.device, dtype=self.theta.dtype)
            distance = (position[None] - peak[:, axis : axis + 1]).abs() * self.theta[axis]
            density = torch.exp(-0.5 * (distance / scale) ** 2) / (scale * math.sqrt(2 * math.pi))
            shape = [peak.shape[0], *(extent if a == axis else 1 for a in range(len(size)))]
            total = total + density.reshape(shape)
        return (total / len(size)).expand(peak.shape[0], *size).flatten(1)
