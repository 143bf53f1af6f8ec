"""How loud the guidance is in the course of a training (ours): in the log, in progress.png, and a warning at the end.

Loudness of a stage is the norm of what its fusion adds over the norm of the skip it is added to. It is measured on the
first validation batches of an epoch, apart from the training steps. Guidance that stays at zero was never heard: such a
model is a plain one that costs more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.nnunet.checkpoints import LOUDNESS
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.progress import curve, draw_durations, draw_losses, draw_rates, whole_epochs

BATCHES = 2
"""Listened to in an epoch."""
HEARD = 0.1
"""Loudness that some stage has to reach. The loudest was .08 in trainings by SGD alone, which gained nothing, and
.35 in those by Adam, which gained (docs/BENCHMARKS.md)."""


class GuidanceLogger(LocalLogger):
    """nnU-Net's log with the loudness of every stage, finest first, by epoch; empty where it was not measured."""

    def __init__(self, verbose: bool = False) -> None:
        super().__init__(verbose)
        self.my_fantastic_logging[LOUDNESS] = []

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As nnU-Net; epochs of a version that did not measure it stay empty."""
        super().load_checkpoint(checkpoint)
        present = self.my_fantastic_logging.setdefault(LOUDNESS, [])
        missing = len(self.my_fantastic_logging["val_losses"]) - len(present)
        present[:0] = [[] for _ in range(missing)]

    def plot_progress_png(self, output_folder: str) -> None:
        """Draw progress.png: what nnU-Net draws, and loudness."""
        log = whole_epochs(self.my_fantastic_logging)
        figure = Figure(figsize=(12, 20), layout="constrained")
        losses, dice, loudness, duration, rate = figure.subplots(5, 1, sharex=True)
        draw_losses(losses, log)
        curve(dice, log["mean_fg_dice"], "pseudo Dice", color="g", linestyle="dotted")
        curve(dice, log["ema_fg_dice"], "pseudo Dice (mov. avg.)", color="g")
        dice.set_ylabel("pseudo Dice")
        dice.legend(loc="upper left")
        for stage in range(max((len(values) for values in log[LOUDNESS]), default=0)):
            values = [epoch[stage] if stage < len(epoch) else math.nan for epoch in log[LOUDNESS]]
            curve(loudness, values, f"stage {stage}")
        loudness.set_ylabel("loudness of the guidance\n|added| / |skip|")
        loudness.set_ylim(bottom=0)
        if loudness.lines:
            loudness.legend(loc="upper left", fontsize="small", title="0 is the finest")
        draw_durations(duration, log)
        draw_rates(rate, log)
        figure.savefig(Path(output_folder) / "progress.png")


class HeardGuidance(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass: a guided training that says how loud its guidance is."""

    _measured: list[torch.Tensor]

    def log_loudness(self) -> None:
        """Take nnU-Net's log as one that holds loudness; a log of one's own is left alone."""
        if type(self.logger.local_logger) is LocalLogger:
            self.logger.local_logger = GuidanceLogger(self.logger.local_logger.verbose)

    @property
    def loudness(self) -> list[float]:
        """Of every stage, finest first, in the last epoch; empty where it was not measured."""
        if not isinstance(self.logger.local_logger, GuidanceLogger):
            return []
        measured: list[list[float]] = self.logger.get_value(LOUDNESS, step=None)
        return measured[-1] if measured else []

    def on_validation_epoch_start(self) -> None:
        """As nnU-Net."""
        super().on_validation_epoch_start()
        self._measured = []

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As nnU-Net; of a few batches loudness is measured."""
        network, asked = unwrap(self.network), isinstance(self.logger.local_logger, GuidanceLogger)
        if asked and len(self._measured) < BATCHES and isinstance(network, UHFGuidedNet):
            data = batch["data"].to(self.device, non_blocking=True)
            with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
                self._measured.append(network.loudness(data))
        result: dict[str, Any] = super().validation_step(batch)
        return result

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """As nnU-Net; loudness is logged, that of the first rank in a distributed training."""
        super().on_validation_epoch_end(val_outputs)
        if isinstance(self.logger.local_logger, GuidanceLogger):
            values = torch.stack(self._measured).mean(dim=0).tolist() if self._measured else []
            self.logger.log(LOUDNESS, values, self.current_epoch)
            self.print_to_log_file(f"Loudness of the guidance, finest stage first: {in_words(values)}")

    def on_train_end(self) -> None:
        """As nnU-Net; a warning when the guidance was never heard."""
        super().on_train_end()
        if self.loudness and max(self.loudness) < HEARD:
            self.print_to_log_file(
                f"WARNING: the guidance was never heard: what it adds is at most {max(self.loudness):.1%} of the skip "
                "it is added to. This model is a plain one; train longer, or raise the rate of the fusions "
                "(nnunet-uhf plan --fusion-rate)"
            )


def in_words(loudness: Sequence[float]) -> str:
    """``0.12 0.31 0.24 0.05``, finest stage first."""
    return " ".join(f"{value:.3f}" for value in loudness) or "not measured"
