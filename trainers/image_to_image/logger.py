"""nnU-Net's training log with qualities of images in the place of Dice: values per epoch and progress.png (ours)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from nnunet_uhf.trainers.progress import curve, draw_durations, draw_losses, draw_rates, whole_epochs


@dataclass(frozen=True)
class PatchQuality:
    """A number that is measured of every validation patch; the larger the better.

    Attributes:
        name: in the log, in `quality` of a validation step.
        title: for people.
        unit: behind the number; empty for none.
        decimals: in the log.
    """

    name: str
    title: str
    unit: str = ""
    decimals: int = 4

    def written(self, value: float) -> str:
        """As the log has it: `PSNR 21.37 dB`."""
        return f"{self.title} {value:.{self.decimals}f}{self.unit and ' '}{self.unit}"


PSNR = PatchQuality("psnr", "PSNR", "dB", 2)
SSIM = PatchQuality("ssim", "SSIM")


def average_of(quality: PatchQuality) -> str:
    """Where the log has the moving average of a quality."""
    return f"ema_{quality.name}"


def log_keys(qualities: Sequence[PatchQuality], chosen_by: PatchQuality | None) -> tuple[str, ...]:
    """What a log holds, one value per epoch each; `terms` are dicts from names of parts of the loss to values."""
    return (
        "train_losses",
        "val_losses",
        "train_terms",
        "val_terms",
        *(quality.name for quality in qualities),
        *(() if chosen_by is None else (average_of(chosen_by),)),
        "lrs",
        "epoch_start_timestamps",
        "epoch_end_timestamps",
    )


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
    """Holds :func:`log_keys`; everything else, checkpoints included, is nnU-Net's logger."""

    def __init__(
        self,
        verbose: bool = False,
        *,
        qualities: Sequence[PatchQuality] = (PSNR, SSIM),
        chosen_by: PatchQuality | None = PSNR,
    ) -> None:
        super().__init__(verbose)
        self.qualities, self.chosen_by = tuple(qualities), chosen_by
        self.my_fantastic_logging: dict[str, list[Any]] = {key: [] for key in log_keys(qualities, chosen_by)}

    def plot_progress_png(self, output_folder: str) -> None:
        """Draw progress.png: losses, every quality, parts of the loss, epoch times, learning rate."""
        log = whole_epochs(self.my_fantastic_logging)
        rows = 4 + len(self.qualities)
        figure = Figure(figsize=(12, 4 * rows), layout="constrained")
        losses, *measured, terms, duration, rate = figure.subplots(rows, 1, sharex=True)
        draw_losses(losses, log)
        for axes, quality in zip(measured, self.qualities, strict=True):
            curve(axes, log[quality.name], quality.title, color="g", linestyle="dotted")
            if quality == self.chosen_by:
                curve(axes, log[average_of(quality)], f"{quality.title} (mov. avg.)", color="g")
            axes.set_ylabel(f"{quality.title} of validation patches{quality.unit and f' [{quality.unit}]'}")
            axes.legend(loc="upper left")
        for name in dict.fromkeys(name for epoch in log["train_terms"] for name in epoch):
            curve(terms, [epoch.get(name, float("nan")) for epoch in log["train_terms"]], name)
        terms.set_yscale("symlog", linthresh=1e-3)
        terms.set_ylabel("parts of the training loss")
        draw_durations(duration, log)
        draw_rates(rate, log)
        if terms.lines:
            terms.legend(loc="upper right", fontsize="small")
        figure.savefig(Path(output_folder) / "progress.png")
