"""Where a `uhf` block lies in nnU-Net's plans: inside a configuration, so that it reaches checkpoints and inference.

nnU-Net's inheritance carries it to cascades. What a block may say: :mod:`nnunet_uhf.guidance.block` and
:class:`nnunet_uhf.keepers.training_block.TrainingBlock`. Design: ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_uhf.nnunet.files import configuration_settings

_KEY = "uhf"
FORMAT = 1
"""Of every block this version writes."""


def block_of(settings: Mapping[str, Any]) -> Any:
    """The block, unchecked, in a configuration's settings; None without one."""
    return settings.get(_KEY)


def block_in(plans: Mapping[str, Any], configuration: str) -> Any:
    """The block, unchecked, of a configuration of plans, an inherited one included; None without one.

    Raises:
        MatchError: the plans have no such configuration.
    """
    return block_of(configuration_settings(plans, configuration))


def role_of(block: Any) -> str | None:
    """What a block, unchecked, is for: ``guided``, ``teacher`` or ``keeper``; None of what is no block."""
    role = block.get("role") if isinstance(block, Mapping) else None
    return role if isinstance(role, str) else None


def put_block(plans: dict[str, Any], configuration: str, block: Mapping[str, Any], **settings: Any) -> None:
    """Write a block and further settings of its configuration into plans, the only place that changes plans.

    Trainers call it before nnU-Net makes any folder, since it copies the plans it is given into every checkpoint.
    """
    plans["configurations"][configuration].update(settings | {_KEY: dict(block)})
