"""The network that a training's `uhf` block describes: all of it is said there, and it is not absurdly large (ours)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from nnunet_uhf.checks import is_int
from nnunet_uhf.errors import UHFError, first_line
from nnunet_uhf.keepers.header import check_architecture
from nnunet_uhf.keepers.training_block import REMEDY, TrainingBlock
from nnunet_uhf.nnunet.fitting_weights import require_fitting_weights

MAX_WEIGHTS = 2_000_000_000


def described_network(
    network_of: Callable[[TrainingBlock], nn.Module], block: TrainingBlock, *, where: str
) -> nn.Module:
    """Build a network from a block that came from elsewhere, first without memory.

    Args:
        network_of: builds it, with random weights.
        block: the block.
        where: plans it stands in, for the message.

    Raises:
        UHFError: no network can be made of it, or one argument is missing, whose default need not be what was trained.
    """
    if block.role == "keeper":
        one = block.networks.architecture
        if not is_int(one.get("dim"), 2, 3):
            raise UHFError(
                f"{where}: the network of the uhf block has dim {one.get('dim')!r:.80}, not 2 or 3; {REMEDY}"
            )
        check_architecture(one, dim=one["dim"], where=where, network=block.networks.network)
    try:
        with torch.device("meta"):
            network = network_of(block)
        weights = sum(value.numel() for value in network.parameters())
        parts: list[Any] = list(network.modules())
        configs = [_plain(part.config()) for part in parts if hasattr(part, "config")]
    except UHFError:
        raise
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError, MemoryError) as error:
        reason = first_line(error, kind=False)
        raise UHFError(f"{where}: the uhf block does not make a network: {reason}; {REMEDY}") from error
    teacher = block.networks.teacher
    # a keeper's are held against its kind above, what a method trains beforehand is nobody else's
    wanted: list[Mapping[str, Any]] = [block.networks.architecture] if block.role == "teacher" else []
    wanted += [] if teacher is None else [teacher.architecture]
    if not all(_plain(one) in configs for one in wanted):
        raise UHFError(f"{where}: the uhf block does not say all arguments of its network; {REMEDY}")
    if not 0 < weights <= MAX_WEIGHTS:
        raise UHFError(f"{where}: the uhf block asks for a network of {weights} weights; {REMEDY}")
    network = network_of(block)
    require_fitting_weights(network, where=where)
    return network


def _plain(arguments: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(dict(arguments)))
