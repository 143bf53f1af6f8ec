"""A network that gradients pass through and that does not learn from them, for one pass (ours)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.func import functional_call


def with_constant_weights(network: nn.Module, *inputs: Any) -> Any:
    """What a network makes of its inputs, its weights being constants: a judge in the loss of those it judges.

    Gradients reach the inputs and no parameter of the network, which may learn from another loss of the same pass.
    """
    constants = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return functional_call(network, constants, inputs)
