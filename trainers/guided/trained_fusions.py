"""Fusions that learn at a rate of their own, beside the optimizer that a trainer chose for its backbone (ours)."""

from __future__ import annotations

from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.guided.optimizer import WithFusions


class TrainedFusions(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass whose network may be a :class:`UHFGuidedNet`.

    A network of another kind is trained by the trainer's own optimizer alone.

    Attributes:
        fusion_rate: Adam's learning rate at the start; 0 leaves the fusions to the backbone's optimizer.
    """

    fusion_rate: Any = 0.0

    def configure_optimizers(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own optimizer, without the parameters that are frozen, and one of the fusions beside it."""
        optimizer, *further = super().configure_optimizers(*args, **kwargs)
        if isinstance(optimizer, WithFusions):  # a trainer with stages may hand on the one it has
            return optimizer, *further
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]
        network = unwrap(self.network)
        if isinstance(network, UHFGuidedNet):
            before = self.optimizer  # of an earlier stage: the fusions know no stages
            optimizer = WithFusions(optimizer, network.fusions.parameters(), self.fusion_rate)
            if isinstance(before, WithFusions):
                optimizer.take_over(before)
        return optimizer, *further

    def on_train_epoch_start(self) -> None:
        """As nnU-Net, with the fusions' own schedule."""
        super().on_train_epoch_start()
        if isinstance(self.optimizer, WithFusions):
            self.optimizer.set_progress(self.current_epoch / self.num_epochs)
