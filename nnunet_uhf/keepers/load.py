"""From the path of a keeper file to the network, in one call."""

from __future__ import annotations

from pathlib import Path

import torch

from nnunet_uhf.keepers.file import build_keeper, read_keeper
from nnunet_uhf.networks.contract import Keeper


def load_keeper(path: str | Path, *, device: torch.device | str = "cpu") -> Keeper:
    """Read a keeper file, verify it and build its keeper: frozen, in eval mode.

    The keeper maps ``(B, 1, *S)``, normalised as its header says, to its feature maps ``(B, C_l, *S_l)``, finest first;
    ``channels`` and ``strides`` say how many channels and how coarse each is.

    Args:
        path: the keeper file.
        device: where the weights go.

    Raises:
        KeeperFileError: as :func:`~nnunet_uhf.keepers.file.read_keeper`, or a keeper that can enhance but not guide.

    Examples:
        >>> import torch
        >>> from nnunet_uhf import load_keeper, write_untrained_keeper
        >>> keeper = load_keeper(write_untrained_keeper("keeper.safetensors", dim=2))
        >>> [tuple(one.shape) for one in keeper(torch.zeros(1, 1, 32, 32))]
        [(1, 4, 32, 32), (1, 4, 16, 16), (1, 4, 8, 8), (1, 4, 4, 4), (1, 4, 2, 2)]
        >>> any(weight.requires_grad for weight in keeper.parameters())
        False
    """
    return build_keeper(read_keeper(path)).to(device)
