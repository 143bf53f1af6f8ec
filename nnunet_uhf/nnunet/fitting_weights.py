"""Weights that do not fit the network the plans describe are told in one line, wherever nnU-Net loads them (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from nnunet_uhf.errors import UHFError, exit_on_user_error


def require_fitting_weights(network: nn.Module, *, where: str) -> None:
    """From now on ``load_state_dict`` with weights of another network, or a part, ends the command with one line.

    Args:
        network: as the plans describe it.
        where: the plans, for the message.
    """
    network.register_load_state_dict_pre_hook(partial(_compare, where=where))


@exit_on_user_error
def _compare(network: nn.Module, given: Mapping[str, Any], prefix: str, *_: Any, where: str) -> None:
    shapes: dict[str, Any] = {f"{prefix}{name}": tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: _shape(value) for name, value in given.items() if name.startswith(prefix)}
    differing = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise UHFError(
            f"{where}: the checkpoint is of another network ({len(differing)} weights differ, the first {name:.100}: "
            f"checkpoint {found.get(name, 'lacks it')}, plans {shapes.get(name, 'lack it')}); restore plans.json and "
            "checkpoints of one model"
        )


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
