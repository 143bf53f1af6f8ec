"""The network that a trainer builds for its plans, of a training that is over (ours)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_uhf.errors import UHFError


def build_backbone(
    build: Callable[..., nn.Module],
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    *,
    input_channels: int,
    output_channels: int,
    deep_supervision: bool,
) -> nn.Module:
    """Call a trainer's ``build_network_architecture``, in nnU-Net's present signature or the one before 2.8."""
    if "plans_manager" in inspect.signature(build).parameters:
        return build(plans_manager, configuration_manager, input_channels, output_channels, deep_supervision)
    return build(
        configuration_manager.network_arch_class_name,
        configuration_manager.network_arch_init_kwargs,
        configuration_manager.network_arch_init_kwargs_req_import,
        input_channels,
        output_channels,
        deep_supervision,
    )


def trained_network(
    plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any], *, trainer: str, deep_supervision: bool
) -> nn.Module:
    """The network a trainer builds for these plans, with random weights.

    Raises:
        UHFError: nnU-Net finds no such trainer.
    """
    plans_manager = PlansManager(plans)
    configuration_manager = plans_manager.get_configuration(configuration)
    try:
        trainer_class = recursive_find_trainer_class_by_name(trainer)
    except RuntimeError:
        raise UHFError(f"trainer {trainer} is not found; put its folder into nnUNet_extTrainer") from None
    return build_backbone(
        trainer_class.build_network_architecture,
        plans_manager,
        configuration_manager,
        input_channels=determine_num_input_channels(plans_manager, configuration_manager, dataset_json),
        output_channels=plans_manager.get_label_manager(dataset_json).num_segmentation_heads,
        deep_supervision=deep_supervision,
    )
