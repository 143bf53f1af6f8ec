"""The five resolution levels of teacher and keeper: their strides and channels (arXiv 2402.08409)."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_uhf.networks.blocks import Strides

LEVELS = 5
"""Number of resolution levels of teacher and keeper (paper)."""
ANISOTROPY = 2.0
"""An axis whose spacing exceeds the finest by this factor is not pooled yet: nnU-Net's own rule."""


def level_strides(dim: int, *, spacing: Sequence[float] | None = None, levels: int = LEVELS) -> Strides:
    """Down-sampling step of each level: ones for the finest, then 2 per axis that is fine enough to be halved.

    Args:
        dim: 2 or 3.
        spacing: voxel spacing in mm, one value per axis; ``None`` means isotropic (the paper's case).
        levels: number of levels, at least 2.

    Returns:
        One tuple of ``dim`` steps per level. As in nnU-Net an axis coarser than twice the finest waits.
    """
    current = [1.0] * dim if spacing is None else [float(s) for s in spacing]
    if len(current) != dim or min(current) <= 0:
        raise ValueError(f"spacing must be {dim} positive values in mm, got {spacing}")
    steps: list[tuple[int, ...]] = [(1,) * dim]
    for _ in range(levels - 1):
        finest = min(current)
        step = tuple(2 if s <= ANISOTROPY * finest * (1 + 1e-6) else 1 for s in current)
        current = [s * k for s, k in zip(current, step, strict=True)]
        steps.append(step)
    return tuple(steps)


def checked_strides(dim: int, strides: Sequence[Sequence[int]] | None, levels: int = LEVELS) -> Strides:
    """The strides as nested tuples, isotropic when ``None``.

    Raises:
        ValueError: a step is not 1 or 2, or the finest level does not keep the resolution.
    """
    if strides is None:
        return level_strides(dim, levels=levels)
    steps = tuple(tuple(int(k) for k in step) for step in strides)
    if len(steps) != levels or any(len(step) != dim for step in steps):
        raise ValueError(f"strides must be {levels} tuples of {dim} integers, got {strides}")
    if any(k != 1 for k in steps[0]) or any(k not in (1, 2) for step in steps for k in step):
        raise ValueError(f"the first level keeps the resolution and every other step is 1 or 2, got {strides}")
    return steps


def level_channels(dim: int, base_features: int, levels: int = LEVELS) -> tuple[int, ...]:
    """Channels of the teacher's and the keeper's maps: doubled per level in 3D, constant in 2D (paper)."""
    return tuple(base_features * (2**level if dim == 3 else 1) for level in range(levels))
