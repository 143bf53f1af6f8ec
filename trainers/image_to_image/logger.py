"""nnU-Net's training log with image quality in the place of Dice: values per epoch and progress.png (ours)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nnunetv2.training.logging.nnunet_logger import LocalLogger

KEYS = (
    "train_losses",
    "val_losses",
    "train_terms",
    "val_terms",
    "psnr",
    "ssim",
    "ema_psnr",
    "lrs",
    "epoch_start_timestamps",
    "epoch_end_timestamps",
)
"""One value per epoch each; the `terms` are dicts from the name of a part of the loss to its value."""

MOMENTUM = 0.9  # nnU-Net's, for the moving average of the pseudo Dice


def moving_average(previous: list[float], value: float) -> float:
    """The next value of an exponential moving average: the value itself on the first epoch.

    An epoch without a finite value leaves the average as it is: one overflow would otherwise stay in it for good, and
    no later epoch could become the best.
    """
    before = previous[-1] if previous else math.nan
    if not math.isfinite(before):
        return value
    return MOMENTUM * before + (1 - MOMENTUM) * value if math.isfinite(value) else before


class ImageLogger(LocalLogger):
    """Holds :data:`KEYS`; everything else, checkpoints included, is nnU-Net's logger."""

    def __init__(self, verbose: bool = False) -> None:
        super().__init__(verbose)
        self.my_fantastic_logging: dict[str, list[Any]] = {key: [] for key in KEYS}

    def plot_progress_png(self, output_folder: str) -> None:
        """Draw progress.png: losses and PSNR, SSIM, parts of the loss, epoch times, learning rate."""
        log = self.my_fantastic_logging
        epochs = min(len(values) for values in log.values())
        log = {key: values[:epochs] for key, values in log.items()}
        figure = Figure(figsize=(12, 20), layout="constrained")
        quality, similarity, terms, duration, rate = figure.subplots(5, 1, sharex=True)

        _curve(quality, log["train_losses"], "loss_tr", color="b")
        _curve(quality, log["val_losses"], "loss_val", color="r")
        decibels = quality.twinx()
        _curve(decibels, log["psnr"], "PSNR", color="g", linestyle="dotted")
        _curve(decibels, log["ema_psnr"], "PSNR (mov. avg.)", color="g")
        decibels.set_ylabel("PSNR of validation patches [dB]")
        quality.set_ylabel("loss")
        quality.legend(loc="upper left")
        decibels.legend(loc="upper right")

        _curve(similarity, log["ssim"], "SSIM", color="g")
        similarity.set_ylabel("SSIM of validation patches")
        for name in dict.fromkeys(name for epoch in log["train_terms"] for name in epoch):
            _curve(terms, [epoch.get(name, float("nan")) for epoch in log["train_terms"]], name)
        terms.set_yscale("symlog", linthresh=1e-3)
        terms.set_ylabel("parts of the training loss")
        starts_and_ends = zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=True)
        _curve(duration, [end - start for start, end in starts_and_ends], "epoch duration", color="b")
        duration.set_ylabel("time [s]")
        duration.set_ylim(bottom=0)
        _curve(rate, log["lrs"], "learning rate", color="b")
        rate.set_ylabel("learning rate")
        rate.set_xlabel("epoch")
        if terms.lines:
            terms.legend(loc="upper right", fontsize="small")
        figure.savefig(Path(output_folder) / "progress.png")


def _curve(axes: Axes, values: list[float], label: str, **style: Any) -> None:
    axes.plot(range(len(values)), values, label=label, **style)
