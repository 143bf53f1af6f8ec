"""Trainings of `run.py` whose first weights are those of another training of it.

UHF_EXPERIMENT_START names the model folder of that one; a condition has its results in a folder of its own, so
nnU-Net's folders do not lead there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.guided.baseline import StartFromBaseline

START_VARIABLE = "UHF_EXPERIMENT_START"
HEADS = ".seg_layers."
"""In the names of the weights that nnU-Net leaves out where it starts from a network of other outputs."""


def start_folder() -> ModelFolder:
    """The model folder that gives the first weights."""
    return ModelFolder(Path(os.environ[START_VARIABLE]))


class StartsFromWeights(nnUNetTrainer):
    """Mixin before a plain trainer: the weights of a finished one; `fold_of_start` is None for the same fold.

    Raises:
        UHFError: the model is not finished, or is none of this network.
    """

    fold_of_start: int | None = None
    with_heads = True

    def initialize(self) -> None:
        """As nnU-Net, with the weights of the other training."""
        super().initialize()
        checkpoint = start_folder().fold(self.fold if self.fold_of_start is None else self.fold_of_start).checkpoint
        if not checkpoint.is_file():
            raise UHFError(f"{checkpoint}: no finished model to start from; train that condition first")
        weights = load_checkpoint_weights(checkpoint)["network_weights"]
        network = unwrap(self.network)
        own = network.state_dict()
        chosen = {name: value for name, value in own.items() if self.with_heads or HEADS not in name}
        if any(name not in weights or weights[name].shape != value.shape for name, value in chosen.items()):
            raise UHFError(f"{checkpoint}: not a model of this network; its plans must be the same")
        network.load_state_dict({**own, **{name: weights[name] for name in chosen}})
        self.print_to_log_file(f"{len(chosen)} of {len(own)} weights start from {checkpoint}")


class StartsFromCondition(StartFromBaseline):
    """Mixin: the baseline of a guided training is the model of another condition."""

    def _baseline_candidates(self, plans: dict[str, Any], configuration: str) -> list[ModelFolder]:  # noqa: ARG002
        return [start_folder()]


class FrozenBackbone(nnUNetTrainer):
    """Mixin before a guided trainer: what started from the baseline stays as it is; fusions alone are trained."""

    def configure_optimizers(self, *args: Any, **kwargs: Any) -> Any:
        """As guided, with a backbone that no optimizer moves."""
        network = unwrap(self.network)
        assert isinstance(network, UHFGuidedNet)
        fusions = {id(parameter) for parameter in network.fusions.parameters()}
        for parameter in network.parameters():
            if id(parameter) not in fusions:
                parameter.requires_grad_(requires_grad=False)
        return super().configure_optimizers(*args, **kwargs)
