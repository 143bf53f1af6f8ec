"""Mean and spread over the members of a Masksembles model, as Lin et al., Medical Image Analysis 2023, have it.

The spread says where the members disagree. It is no error bar: members share most of their weights and all their data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.kinds import KINDS

PREFIX = "network."


class MeanAndSpread(nn.Module):
    """`(B, 1, *S) -> (B, 2, *S')`: mean and standard deviation over the members of an ensemble in one network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, source: Tensor) -> Tensor:
        """Both in normalised intensities."""
        members = self.network.forward_all(source)
        return torch.cat([members.mean(dim=0), members.std(dim=0, correction=0)], dim=1)


def with_spread(network: nn.Module, *, header: KeeperHeader) -> MeanAndSpread:
    """The network that also gives its spread; UHFError when it is no ensemble."""
    if KINDS[header.network].members(header.architecture) is None:
        raise UHFError(
            f"the model trained on {header.dataset} is no ensemble, so it cannot say how uncertain it is: leave "
            "--uncertainty out, or train with SIQTTrainerMasksembles"
        )
    return MeanAndSpread(network)


def wrapped(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the network as one of :class:`MeanAndSpread`."""
    return {PREFIX + name: value for name, value in parameters.items()}
