"""Panels of progress.png that all of our trainings have (ours): values by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

Log = Mapping[str, Sequence[Any]]
FEW_EPOCHS = 10


def curve(axes: Axes, values: Sequence[float], label: str, **style: Any) -> None:
    """One line, by epoch; of a short training its points, too: a single epoch is no line."""
    marker = "o" if len(values) <= FEW_EPOCHS else None
    axes.plot(range(len(values)), values, label=label, **{"marker": marker, **style})
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def draw_losses(axes: Axes, log: Log) -> None:
    """Losses of training and validation."""
    curve(axes, log["train_losses"], "loss_tr", color="b")
    curve(axes, log["val_losses"], "loss_val", color="r")
    axes.set_ylabel("loss")
    axes.legend(loc="upper left")


def draw_durations(axes: Axes, log: Log) -> None:
    """Seconds that each epoch took."""
    starts_and_ends = zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=True)
    curve(axes, [end - start for start, end in starts_and_ends], "epoch duration", color="b")
    axes.set_ylabel("time [s]")
    axes.set_ylim(bottom=0)


def draw_rates(axes: Axes, log: Log) -> None:
    """Learning rate, at the bottom of the picture."""
    curve(axes, log["lrs"], "learning rate", color="b")
    axes.set_ylabel("learning rate")
    axes.set_xlabel("epoch")


def whole_epochs(log: Log) -> dict[str, Sequence[Any]]:
    """The log up to the last epoch that has all values."""
    epochs = min(len(values) for values in log.values())
    return {key: values[:epochs] for key, values in log.items()}
